//! A credential-injecting, auditing proxy for programs that are not trusted.
