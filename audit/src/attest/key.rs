//! Keys: ECDSA P-256 in the forms in which tools write them.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    ParsedPublicKey,
};
use zeroize::Zeroizing;

use super::bundle;
use super::pbes2;
use crate::hash::Hash;

/// Why a key cannot be used. None of them shows any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFault {
    /// It is no private key, or in no form that is known.
    Unreadable,
    /// It is a private key, and none of ECDSA P-256.
    NotP256,
    /// It is encrypted, and there is no password.
    PasswordMissing,
    /// It is not encrypted, and there is a password.
    PasswordUnneeded,
    /// The password is not the one that it is encrypted with, or it is damaged.
    PasswordWrong,
    /// It is encrypted in a way that is not known here.
    Encryption,
}

impl std::fmt::Display for KeyFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreadable => {
                "the signing key is no private key in PEM or DER (PKCS #8 or SEC 1)"
            }
            Self::NotP256 => "audit attestation signing key must be an ECDSA P-256 private key",
            Self::PasswordMissing => "the signing key is encrypted, and no password was given",
            Self::PasswordUnneeded => "a password was given, and the signing key is not encrypted",
            Self::PasswordWrong => "the password does not open the signing key",
            Self::Encryption => {
                "the signing key is encrypted in a way that is not supported: rewrite it with \
                 `openssl pkcs8 -topk8 -v2 aes-256-cbc`"
            }
        })
    }
}

/// What signs.
#[derive(Debug)]
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// Reads a private key: PEM or DER, PKCS #8, encrypted or not, or SEC 1.
    ///
    /// # Errors
    /// It is none that can be used.
    pub fn parse(key: &[u8], password: Option<&[u8]>) -> Result<Self, KeyFault> {
        let (der, encryption) = unwrapped(key)?;
        let der = match (encryption, password) {
            (Encryption::None, None) => der,
            (Encryption::None, Some(_)) => return Err(KeyFault::PasswordUnneeded),
            (_, None) => return Err(KeyFault::PasswordMissing),
            (Encryption::Pkcs8, Some(password)) => pbes2::decrypt(&der, password)?,
            (Encryption::Other, Some(_)) => return Err(KeyFault::Encryption),
        };
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, &der);
        let pair = pair.map_err(|_| {
            if pbes2::is_key(&der) { KeyFault::NotP256 } else { KeyFault::Unreadable }
        })?;
        let spki = pair.public_key().as_der().map_err(|_| KeyFault::NotP256)?;
        let public = PublicKey { spki: spki.as_ref().to_vec() };
        Ok(Self { pair, public })
    }

    /// The key that checks what this one signs.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature of `message`, in ASN.1.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, &'static str> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| "signing failed")?.as_ref().to_vec())
    }
}

/// How a key is encrypted.
#[derive(Clone, Copy)]
enum Encryption {
    None,
    /// As RFC 5958 has it.
    Pkcs8,
    /// In the old way of OpenSSL, with keys of MD5.
    Other,
}

/// The DER in `key`.
fn unwrapped(key: &[u8]) -> Result<(Zeroizing<Vec<u8>>, Encryption), KeyFault> {
    if !key.trim_ascii_start().starts_with(b"-----BEGIN") {
        let encryption =
            if pbes2::is_encrypted(key) { Encryption::Pkcs8 } else { Encryption::None };
        return Ok((Zeroizing::new(key.to_vec()), encryption));
    }
    // There may be others around it: OpenSSL writes a key's parameters before it.
    for section in pem::parse_many(key).map_err(|_| KeyFault::Unreadable)? {
        let encryption = match section.tag() {
            "PRIVATE KEY" => Encryption::None,
            "ENCRYPTED PRIVATE KEY" => Encryption::Pkcs8,
            "EC PRIVATE KEY" if section.headers().get("Proc-Type").is_some() => Encryption::Other,
            "EC PRIVATE KEY" => Encryption::None,
            _ => continue,
        };
        return Ok((Zeroizing::new(section.into_contents()), encryption));
    }
    Err(KeyFault::Unreadable)
}

/// What checks a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
}

impl PublicKey {
    /// Reads a public key: PEM, DER, or DER in base64, in one line or many.
    ///
    /// # Errors
    /// It is none of ECDSA P-256; in words.
    pub fn parse(key: &[u8]) -> Result<Self, String> {
        let wrong = || "it is no ECDSA P-256 public key in PEM, DER or base64".to_owned();
        let text = key.trim_ascii();
        let spki = if text.starts_with(b"-----BEGIN") {
            let section = pem::parse(text).map_err(|_| wrong())?;
            (section.tag() == "PUBLIC KEY").then(|| section.into_contents()).ok_or_else(wrong)?
        } else if text.starts_with(b"M") {
            // `base64` breaks lines.
            let letters: Vec<u8> =
                text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            bundle::unbase64(str::from_utf8(&letters).map_err(|_| wrong())?).map_err(|_| wrong())?
        } else {
            key.to_vec()
        };
        // A bare point is a key as well, but has another digest.
        if !spki.starts_with(&[0x30]) {
            return Err(wrong());
        }
        ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &spki).map_err(|_| wrong())?;
        Ok(Self { spki })
    }

    /// The SHA-256 of it, by which it is named.
    pub fn id(&self) -> String {
        Hash::of(&[&self.spki]).to_string()
    }

    /// It in base64, as sessions keep it.
    pub fn to_base64(&self) -> String {
        bundle::base64(&self.spki)
    }

    /// Whether `signature` is this key's, of `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.spki)
            .is_ok_and(|key| key.verify_sig(message, signature).is_ok())
    }
}
