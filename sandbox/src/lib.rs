//! What a process may touch: capabilities, enforcement, sandboxed execution.
