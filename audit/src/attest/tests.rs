use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::bundle::Bundle;
use super::{Attested, BUNDLE_FILENAME, KeyFault, SigningKey, sign, sign_into, verify, verify_in};
use crate::{AuditIntegrity, SessionMetadata};

/// A key of `openssl genpkey`, encrypted in three ways that OpenSSL has; the password is `pw`.
const ENCRYPTED: [&str; 3] = [
    include_str!("tests/aes256.pem"),
    include_str!("tests/aes128-sha1.pem"),
    include_str!("tests/scrypt.pem"),
];

fn pair() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()
}

fn key() -> SigningKey {
    let der = pair().to_pkcs8v1().unwrap();
    SigningKey::parse(der.as_ref(), None).unwrap()
}

fn session() -> SessionMetadata {
    let command = vec!["sh".to_owned(), "é".to_owned()];
    let mut session = SessionMetadata::new("sid".to_owned(), command, vec!["/tmp".into()]);
    session.ended = Some("2026-01-01T00:00:00Z".to_owned());
    session.exit_code = Some(3);
    session.audit_integrity = Some(AuditIntegrity {
        hash_algorithm: AuditIntegrity::HASH_ALGORITHM.to_owned(),
        event_count: 2,
        chain_head: "0a".repeat(32),
        merkle_root: "0b".repeat(32),
    });
    session
}

/// A session that is signed, and its bundle.
fn signed(key: &SigningKey) -> (SessionMetadata, String) {
    let mut session = session();
    let signed = sign(&session.to_json().unwrap(), key, None).unwrap();
    session.audit_attestation = Some(signed.attestation);
    (session, signed.bundle)
}

fn judged(session: &SessionMetadata, bundle: &str) -> Attested {
    verify(bundle, &session.to_json().unwrap(), None)
}

#[test]
fn what_is_signed_verifies_and_says_what_that_proves() {
    let key = key();
    let (session, bundle) = signed(&key);
    let json = session.to_json().unwrap();
    let attested = verify(&bundle, &json, Some(key.public().to_base64().as_bytes()));
    assert_eq!(attested.verification_error, None);
    assert_eq!(attested.expected_public_key_matches, Some(true));
    assert_eq!(attested.session_digest_matches, Some(true));
    assert_eq!(attested.not_proved, ["events"]);
    assert_eq!(judged(&session, &bundle).not_proved, ["signer", "events"]);
    let unsigned = verify(&bundle, &self::session().to_json().unwrap(), None);
    assert!(!unsigned.present && unsigned.proved.is_empty());
}

type Change = fn(&mut SessionMetadata);

#[test]
fn nothing_of_a_session_can_be_changed_after_it_was_signed() {
    let (session, bundle) = signed(&key());
    let all: [(&str, Change); 9] = [
        ("session_id", |session| session.session_id = "other".to_owned()),
        ("command", |session| session.command[0] = "bash".to_owned()),
        ("started", |session| session.started = "2025-01-01T00:00:00Z".to_owned()),
        ("ended", |session| session.ended = None),
        ("not the one", |session| session.exit_code = Some(0)),
        ("not the one", |session| session.tracked_paths.clear()),
        ("event_count", |session| {
            session.audit_integrity.as_mut().unwrap().event_count = 1;
        }),
        ("chain_head", |session| {
            session.audit_integrity.as_mut().unwrap().chain_head = "00".repeat(32);
        }),
        ("key mismatch", |session| {
            session.audit_attestation.as_mut().unwrap().key_id = "00".repeat(32);
        }),
    ];
    for (said, change) in all {
        let mut changed = session.clone();
        change(&mut changed);
        let attested = judged(&changed, &bundle);
        let reason = attested.verification_error.unwrap();
        assert!(reason.contains(said), "{said}: {reason}");
        assert!(!attested.signature_verified && attested.proved.is_empty());
    }
}

#[test]
fn another_key_is_not_the_one_that_is_expected() {
    let (session, bundle) = signed(&key());
    let json = session.to_json().unwrap();
    let attested = verify(&bundle, &json, Some(key().public().to_base64().as_bytes()));
    assert_eq!(attested.expected_public_key_matches, Some(false));
    assert!(attested.verification_error.is_some() && !attested.signature_verified);
    // Signed anew by somebody else, with that key put into the session.
    let (forged, bundle) = signed(&key());
    let original = signed(&key()).0.audit_attestation.unwrap().public_key;
    let forged = forged.to_json().unwrap();
    assert_eq!(verify(&bundle, &forged, None).not_proved, ["signer", "events"]);
    assert!(!verify(&bundle, &forged, Some(original.as_bytes())).signature_verified);
}

#[test]
fn a_bundle_is_a_file_of_the_very_directory() {
    let (outside, key, mut session) = (TempDir::new().unwrap(), key(), session());
    let inside = outside.path().join("session");
    std::fs::create_dir(&inside).unwrap();
    let attestation = sign_into(&inside, &session.to_json().unwrap(), &key, None).unwrap();
    std::fs::copy(inside.join(BUNDLE_FILENAME), outside.path().join("bundle")).unwrap();
    std::os::unix::fs::symlink("../bundle", inside.join("link")).unwrap();
    let mut judged = |name: &str| {
        session.audit_attestation = Some(attestation.clone());
        session.audit_attestation.as_mut().unwrap().bundle_filename = name.to_owned();
        let json = session.to_json().unwrap();
        verify_in(&inside, &json, None).verification_error.unwrap_or_default()
    };
    // The name is part of what was signed, so that another is an error in any case: these are about which.
    let absolute = outside.path().join("bundle");
    for name in
        ["../bundle", "..", ".", "", "a/b", "./bundle", "x/", "a\0b", absolute.to_str().unwrap()]
    {
        assert!(judged(name).contains("bundle_filename"), "{name}: {}", judged(name));
    }
    assert!(judged("link").contains("regular file"));
    assert!(judged("none").contains("missing audit attestation bundle"));
    assert_eq!(judged(BUNDLE_FILENAME), "");
    std::fs::remove_file(inside.join(BUNDLE_FILENAME)).unwrap();
    assert!(judged(BUNDLE_FILENAME).contains("missing audit attestation bundle"));
}

/// Step by step, and not by their square: that would take many minutes.
#[test]
fn what_a_bundle_has_besides_is_looked_through_once() {
    let (session, bundle) = signed(&key());
    let mut bundle: serde_json::Value = serde_json::from_str(&bundle).unwrap();
    let many = (0..100_000).map(|at| (at.to_string(), at.into()));
    let data = serde_json::Value::Object(many.collect());
    bundle["verificationMaterial"]["timestampVerificationData"] = data;
    assert_eq!(judged(&session, &bundle.to_string()).verification_error, None);
    bundle["verificationMaterial"]["timestampVerificationData"] = [0].as_slice().into();
    assert!(judged(&session, &bundle.to_string()).verification_error.is_some());
}

#[test]
fn a_bundle_is_not_longer_than_its_file_may_be() {
    let (session, bundle) = signed(&key());
    let long = format!("{bundle}{}", " ".repeat(16 << 20));
    let error = judged(&session, &long).verification_error.unwrap();
    assert!(error.contains("longer than"), "{error}");
}

#[test]
fn what_no_log_comes_to_is_not_signed() {
    let key = key();
    let integrity = session().audit_integrity.unwrap();
    for (wrong, said) in [
        (AuditIntegrity { hash_algorithm: "md5".into(), ..integrity.clone() }, "hash_algorithm"),
        (AuditIntegrity { chain_head: "0a".into(), ..integrity.clone() }, "chain_head"),
        (AuditIntegrity { merkle_root: "zz".repeat(32), ..integrity }, "merkle_root"),
    ] {
        let session = SessionMetadata { audit_integrity: Some(wrong), ..session() };
        let refused = sign(&session.to_json().unwrap(), &key, None).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn keys_are_read_in_the_forms_that_tools_write() {
    let pair = pair();
    let sec1: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().unwrap();
    let pkcs8 = pair.to_pkcs8v1().unwrap();
    let pem = |tag: &str, der: &[u8]| pem::encode(&pem::Pem::new(tag, der)).into_bytes();
    let parameters = pem("EC PARAMETERS", &[6, 8, 42, 134, 72, 206, 61, 3, 1, 7]);
    let both = [parameters, pem("EC PRIVATE KEY", sec1.as_ref())].concat();
    let id = SigningKey::parse(pkcs8.as_ref(), None).unwrap().public().id();
    for form in [sec1.as_ref().to_vec(), pem("PRIVATE KEY", pkcs8.as_ref()), both] {
        assert_eq!(SigningKey::parse(&form, None).unwrap().public().id(), id);
        assert_eq!(SigningKey::parse(&form, Some(b"pw")).unwrap_err(), KeyFault::PasswordUnneeded);
    }
    let other = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
    let fault = |key: &[u8]| SigningKey::parse(key, None).unwrap_err();
    assert_eq!(fault(other.to_pkcs8v1().unwrap().as_ref()), KeyFault::NotP256);
    let bare: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().unwrap();
    for key in [b"".as_slice(), b"zz", b"-----BEGIN", bare.as_ref(), &pem("PUBLIC KEY", b"")] {
        assert_eq!(fault(key), KeyFault::Unreadable);
    }
}

#[test]
fn encrypted_keys_are_opened_by_their_password_alone() {
    let [aes256, aes128, scrypt] = ENCRYPTED.map(str::as_bytes);
    let id = |key: &[u8]| SigningKey::parse(key, Some(b"pw")).unwrap().public().id();
    assert_eq!(id(aes256), id(aes128));
    let der = pem::parse(aes256).unwrap().into_contents();
    assert_eq!(id(&der), id(aes256));
    for key in [aes256, aes128, &der] {
        assert_eq!(SigningKey::parse(key, None).unwrap_err(), KeyFault::PasswordMissing);
        assert_eq!(SigningKey::parse(key, Some(b"no")).unwrap_err(), KeyFault::PasswordWrong);
    }
    // One in 256 of them leaves a padding that is right.
    for wrong in 0..600_u32 {
        let wrong = SigningKey::parse(aes128, Some(&wrong.to_le_bytes())).unwrap_err();
        assert_eq!(wrong, KeyFault::PasswordWrong);
    }
    assert_eq!(SigningKey::parse(scrypt, Some(b"pw")).unwrap_err(), KeyFault::Encryption);
}

proptest! {
    #[test]
    fn whatever_a_bundle_or_key_is_there_is_an_answer(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        text in ".{0,200}",
        at: prop::sample::Index,
        byte: u8,
    ) {
        let (session, bundle) = signed(&key());
        let mut changed = bundle.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] = byte;
        let changed = String::from_utf8_lossy(&changed);
        let attested = judged(&session, &changed);
        // What changes nothing of what is read does no harm, like a digit of the other alphabet.
        let opened = |text: &str| Bundle::read(text).and_then(|bundle| bundle.open());
        let is_same = opened(&changed) == opened(&bundle);
        prop_assert!(!attested.signature_verified || is_same);
        prop_assert!(judged(&session, &text).verification_error.is_some());
        let _ = verify(&bundle, &text, Some(&bytes));
        prop_assert!(SigningKey::parse(&bytes, Some(b"pw")).is_err());
    }
}
