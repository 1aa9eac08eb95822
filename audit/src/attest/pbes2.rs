//! Private keys that are encrypted with a password: PKCS #8 with PBES2 (RFC 8018), PBKDF2 and
//! AES-CBC, which is what OpenSSL and `cryptography` write.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method is of one lifetime, and a closure of all that are asked for"
)]

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2::{
    self, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA384, PBKDF2_HMAC_SHA512,
};
use yasna::models::ObjectIdentifier;
use yasna::{ASN1Result, BERReader};
use zeroize::{Zeroize as _, Zeroizing};

use super::key::KeyFault;

/// How often a password may be hashed: a key asks for that itself, and is not to be a trap.
const MAX_ITERATIONS: u32 = 10_000_000;

const PBES2: &[u64] = &[1, 2, 840, 113_549, 1, 5, 13];
const PBKDF2: &[u64] = &[1, 2, 840, 113_549, 1, 5, 12];

/// An `EncryptedPrivateKeyInfo`, taken apart.
struct Encrypted {
    scheme: ObjectIdentifier,
    derivation: Derivation,
    cipher: ObjectIdentifier,
    iv: Vec<u8>,
    data: Vec<u8>,
}

/// How the key is made of the password.
struct Derivation {
    function: ObjectIdentifier,
    salt: Vec<u8>,
    iterations: u32,
    /// HMAC with SHA-1 if it is not said.
    hash: Option<ObjectIdentifier>,
}

/// Whether `der` begins as encrypted keys do: with an algorithm, where others have a version.
pub(super) fn is_encrypted(der: &[u8]) -> bool {
    fn scheme(reader: BERReader<'_, '_>) -> ASN1Result<()> {
        reader.read_sequence(|reader| {
            reader.next().read_sequence(|reader| {
                reader.next().read_oid()?;
                reader.next().read_der().map(drop)
            })?;
            reader.next().read_bytes().map(drop)
        })
    }
    yasna::parse_der(der, scheme).is_ok()
}

/// Whether `der` is a private key at all: PKCS #8 or SEC 1, which begin with a version.
pub(super) fn is_key(der: &[u8]) -> bool {
    fn version(reader: BERReader<'_, '_>) -> ASN1Result<()> {
        reader.read_sequence(|reader| {
            reader.next().read_u8()?;
            while reader.read_optional(|reader| reader.read_der())?.is_some() {}
            Ok(())
        })
    }
    yasna::parse_der(der, version).is_ok()
}

/// The key that `der` is when it is decrypted.
pub(super) fn decrypt(der: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
    let encrypted = yasna::parse_der(der, read).map_err(|_| KeyFault::Encryption)?;
    let known = |oid: &ObjectIdentifier, expected: &[u64]| oid.components().as_slice() == expected;
    if !known(&encrypted.scheme, PBES2) || !known(&encrypted.derivation.function, PBKDF2) {
        return Err(KeyFault::Encryption);
    }
    let (cipher, size) = cipher(&encrypted.cipher).ok_or(KeyFault::Encryption)?;
    let hash = hash(encrypted.derivation.hash.as_ref()).ok_or(KeyFault::Encryption)?;
    let iterations = NonZeroU32::new(encrypted.derivation.iterations)
        .filter(|iterations| iterations.get() <= MAX_ITERATIONS)
        .ok_or(KeyFault::Encryption)?;
    let mut key = Zeroizing::new(vec![0; size]);
    pbkdf2::derive(hash, iterations, &encrypted.derivation.salt, password, &mut key);
    let iv = FixedLength::try_from(encrypted.iv.as_slice()).map_err(|_| KeyFault::Encryption)?;
    let wrong = |_| KeyFault::PasswordWrong;
    let key = UnboundCipherKey::new(cipher, &key).map_err(wrong)?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(wrong)?;
    let mut data = encrypted.data;
    let opened = key.decrypt(&mut data, DecryptionContext::Iv128(iv));
    let opened = opened.map(|opened| Zeroizing::new(opened.to_vec()));
    data.zeroize();
    let opened = opened.map_err(wrong)?;
    // One wrong password in 256 leaves a padding that is right.
    if is_key(&opened) { Ok(opened) } else { Err(KeyFault::PasswordWrong) }
}

fn read(reader: BERReader<'_, '_>) -> ASN1Result<Encrypted> {
    reader.read_sequence(|reader| {
        let (scheme, derivation, cipher, iv) = reader.next().read_sequence(|reader| {
            let scheme = reader.next().read_oid()?;
            reader.next().read_sequence(|reader| {
                let derivation = reader.next().read_sequence(|reader| {
                    let function = reader.next().read_oid()?;
                    reader.next().read_sequence(|reader| {
                        let salt = reader.next().read_bytes()?;
                        let iterations = reader.next().read_u32()?;
                        reader.read_optional(|reader| reader.read_u32())?;
                        let hash = reader.read_optional(|reader| {
                            reader.read_sequence(|reader| {
                                let hash = reader.next().read_oid()?;
                                reader.read_optional(|reader| reader.read_null())?;
                                Ok(hash)
                            })
                        })?;
                        Ok(Derivation { function, salt, iterations, hash })
                    })
                })?;
                reader.next().read_sequence(|reader| {
                    let cipher = reader.next().read_oid()?;
                    let iv = reader.next().read_bytes()?;
                    Ok((scheme, derivation, cipher, iv))
                })
            })
        })?;
        let data = reader.next().read_bytes()?;
        Ok(Encrypted { scheme, derivation, cipher, iv, data })
    })
}

/// AES-CBC, and how long its key is in bytes.
fn cipher(oid: &ObjectIdentifier) -> Option<(&'static Algorithm, usize)> {
    match oid.components().as_slice() {
        [2, 16, 840, 1, 101, 3, 4, 1, 2] => Some((&AES_128, 16)),
        [2, 16, 840, 1, 101, 3, 4, 1, 22] => Some((&AES_192, 24)),
        [2, 16, 840, 1, 101, 3, 4, 1, 42] => Some((&AES_256, 32)),
        _ => None,
    }
}

fn hash(oid: Option<&ObjectIdentifier>) -> Option<pbkdf2::Algorithm> {
    match oid.map(|oid| oid.components().as_slice()) {
        None | Some([1, 2, 840, 113_549, 2, 7]) => Some(PBKDF2_HMAC_SHA1),
        Some([1, 2, 840, 113_549, 2, 9]) => Some(PBKDF2_HMAC_SHA256),
        Some([1, 2, 840, 113_549, 2, 10]) => Some(PBKDF2_HMAC_SHA384),
        Some([1, 2, 840, 113_549, 2, 11]) => Some(PBKDF2_HMAC_SHA512),
        _ => None,
    }
}
