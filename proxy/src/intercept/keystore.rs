//! Certificates as a key store that Java reads: PKCS #12 (RFC 7292) without a password, as Java's
//! own store of roots is.

use rustls_pki_types::CertificateDer;
use yasna::models::ObjectIdentifier;
use yasna::{DERWriter, Tag, construct_der};

/// Object identifiers (RFC 7292, appendix D; RFC 2985 §5.5; X.509).
const DATA: &[u64] = &[1, 2, 840, 113_549, 1, 7, 1];
const CERTIFICATE_BAG: &[u64] = &[1, 2, 840, 113_549, 1, 12, 10, 1, 3];
const X509: &[u64] = &[1, 2, 840, 113_549, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u64] = &[1, 2, 840, 113_549, 1, 9, 20];
const ANY_USAGE: &[u64] = &[2, 5, 29, 37, 0];

/// Without this attribute, which is Oracle's own, Java takes no certificate for a root.
const TRUSTED_USAGE: &[u64] = &[2, 16, 840, 1, 113_894, 746_875, 1, 1];

/// The store of `certificates`.
pub(super) fn encode<'a>(certificates: impl Iterator<Item = &'a CertificateDer<'a>>) -> Vec<u8> {
    let bags = construct_der(|writer| {
        writer.write_sequence_of(|writer| {
            for (number, certificate) in certificates.enumerate() {
                bag(writer.next(), number, certificate);
            }
        });
    });
    let contents = construct_der(|writer| {
        writer.write_sequence_of(|writer| data(writer.next(), &bags));
    });
    construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(3);
            data(writer.next(), &contents);
        });
    })
}

fn oid(writer: DERWriter<'_>, numbers: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(numbers));
}

/// `ContentInfo` of plain bytes.
fn data(writer: DERWriter<'_>, bytes: &[u8]) {
    writer.write_sequence(|writer| {
        oid(writer.next(), DATA);
        writer.next().write_tagged(Tag::context(0), |writer| writer.write_bytes(bytes));
    });
}

/// `SafeBag` of a certificate.
fn bag(writer: DERWriter<'_>, number: usize, certificate: &[u8]) {
    writer.write_sequence(|writer| {
        oid(writer.next(), CERTIFICATE_BAG);
        writer.next().write_tagged(Tag::context(0), |writer| {
            writer.write_sequence(|writer| {
                oid(writer.next(), X509);
                writer
                    .next()
                    .write_tagged(Tag::context(0), |writer| writer.write_bytes(certificate));
            });
        });
        writer.next().write_set_of(|writer| {
            attribute(writer.next(), FRIENDLY_NAME, |writer| {
                writer.write_bmp_string(&format!("root-{number}"));
            });
            attribute(writer.next(), TRUSTED_USAGE, |writer| oid(writer, ANY_USAGE));
        });
    });
}

fn attribute(writer: DERWriter<'_>, name: &[u64], value: impl FnOnce(DERWriter<'_>)) {
    writer.write_sequence(|writer| {
        oid(writer.next(), name);
        writer.next().write_set_of(|writer| value(writer.next()));
    });
}
