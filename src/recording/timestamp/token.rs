//! An authority's answer: read and verified. It holds a signature (CMS) over a statement (TSTInfo):
//!
//! ```text
//!   TimeStampResp { status, ContentInfo { SignedData { TSTInfo { imprint, time, nonce }, certificates, SignerInfo } } }
//! ```
//! Promises: what it accepts, `openssl ts -verify` accepts. Takes DER alone, one signer, and the certificate that the signed
//! attributes name (RFC 5816). Revocation is not looked up.

use super::query::Query;
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};
use x509_parser::asn1_rs::GeneralizedTime;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;

const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const SIGNING_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x0c];
const SIGNING_CERTIFICATE_V2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x2f];
const SHA_2: [(&[u8], &Algorithm); 3] = [
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01], &SHA256),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02], &SHA384),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03], &SHA512),
];
/// Extended key usage timeStamping (RFC 3161 section 2.3).
const TIME_STAMPING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When the authority saw the imprint, ns since 1970.
    pub time: u64,
    /// Whose signature it is: the subject of the certificate.
    pub authority: String,
}

/// Why a token does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Not the structure of RFC 3161.
    #[error("not an answer of RFC 3161: {0}")]
    Malformed(&'static str),
    /// The authority did not stamp; its PKIStatus.
    #[error("the authority refuses (status {0})")]
    Refused(u8),
    /// The token is for other bytes.
    #[error("its imprint is not that of the checkpoint")]
    Imprint,
    /// The token answers another query.
    #[error("its nonce is not that of the query: an answer to another one")]
    Nonce,
    /// The signature does not hold.
    #[error("its signature does not hold")]
    Signature,
    /// The certificate leads to none of the given authorities, or is not for time-stamping.
    #[error("its certificate is not believed: {0}")]
    Chain(String),
}

/// Verifies an answer to `query`. Without `authorities` its signature is held against the certificate in it, and nothing says
/// whose that is.
pub fn verify(
    answer: &[u8],
    query: &Query,
    authorities: Option<&[TrustAnchor<'_>]>,
) -> Result<Stamp, TokenFault> {
    let mut rest = answer;
    let mut response = take(&mut rest, SEQUENCE, "the answer")?;
    end(rest, "the answer")?;
    let mut status = take(&mut response, SEQUENCE, "its status")?;
    // Granted, or granted with modifications.
    match take(&mut status, INTEGER, "its status")? {
        [0 | 1] => {}
        [refused] => return Err(TokenFault::Refused(*refused)),
        _ => return Err(TokenFault::Malformed("its status")),
    }
    let mut token = take(&mut response, SEQUENCE, "its token")?;
    end(response, "its token")?;
    let signed = Signed::parse(&mut token)?;
    let time = read_statement(signed.statement, query)?;
    let certificate = signed.verify()?;
    let parsed = x509_parser::parse_x509_certificate(certificate).ok();
    let (_, parsed) = parsed.ok_or(TokenFault::Malformed("its certificate"))?;
    let authority = parsed.subject().to_string().chars().filter(|c| !c.is_control()).take(200).collect();
    if let Some(authorities) = authorities {
        signed.verify_chain(certificate, authorities, time)?;
    }
    Ok(Stamp { time, authority })
}

/// The parts of SignedData (RFC 5652 section 5.1).
struct Signed<'a> {
    statement: &'a [u8],
    /// Whole certificates.
    certificates: Vec<&'a [u8]>,
    digest: &'static Algorithm,
    /// The attributes as they are signed: a SET.
    attributes: Vec<u8>,
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn parse(content: &mut &'a [u8]) -> Result<Self, TokenFault> {
        const WHAT: &str = "SignedData";
        expect_oid(content, SIGNED_DATA, WHAT)?;
        let mut explicit = take(content, CONTEXT_0, WHAT)?;
        let mut data = take(&mut explicit, SEQUENCE, WHAT)?;
        take(&mut data, INTEGER, WHAT)?;
        take(&mut data, SET, WHAT)?;
        let mut encapsulated = take(&mut data, SEQUENCE, WHAT)?;
        expect_oid(&mut encapsulated, TST_INFO, "the type of what is signed")?;
        let mut statement = take(&mut encapsulated, CONTEXT_0, WHAT)?;
        let statement = take(&mut statement, OCTETS, WHAT)?;
        let mut certificates = Vec::new();
        let mut held = take(&mut data, CONTEXT_0, "it holds no certificate")?;
        while !held.is_empty() {
            let (tag, _, whole) = split(&mut held, WHAT)?;
            if tag == SEQUENCE {
                certificates.push(whole);
            }
        }
        // Lists of revoked certificates, which are not read.
        if data.first() == Some(&0xa1) {
            split(&mut data, WHAT)?;
        }
        let mut signers = take(&mut data, SET, WHAT)?;
        let mut signer = take(&mut signers, SEQUENCE, "its signer")?;
        end(signers, "more than one signer")?;
        take(&mut signer, INTEGER, "its signer")?;
        // Who signed is told by the signed attributes too, and there by a hash.
        split(&mut signer, "its signer")?;
        let mut algorithm = take(&mut signer, SEQUENCE, "its digest")?;
        let oid = take(&mut algorithm, OID, "its digest")?;
        let digest = SHA_2.iter().find(|(known, _)| *known == oid).map(|(_, algorithm)| *algorithm);
        let digest = digest.ok_or(TokenFault::Malformed("its digest is not one of SHA-2"))?;
        let (tag, _, attributes) = split(&mut signer, "signed attributes")?;
        if tag != CONTEXT_0 {
            return Err(TokenFault::Malformed("it has no signed attributes"));
        }
        // RFC 5652 section 5.4: they are signed as what they are, a SET.
        let attributes = [&[SET], attributes.get(1..).unwrap_or_default()].concat();
        take(&mut signer, SEQUENCE, "its signature")?;
        let signature = take(&mut signer, OCTETS, "its signature")?;
        Ok(Signed { statement, certificates, digest, attributes, signature })
    }

    /// The certificate whose signature it is.
    fn verify(&self) -> Result<&'a [u8], TokenFault> {
        let mut kind = self.attribute(CONTENT_TYPE)?.ok_or(TokenFault::Malformed("contentType"))?;
        expect_oid(&mut kind, TST_INFO, "contentType")?;
        let mut told = self.attribute(MESSAGE_DIGEST)?.ok_or(TokenFault::Malformed("messageDigest"))?;
        let told = take(&mut told, OCTETS, "messageDigest")?;
        if told != digest(self.digest, self.statement).as_ref() {
            return Err(TokenFault::Signature);
        }
        let certificate = self.signing_certificate()?;
        let der = CertificateDer::from(certificate);
        let parsed = EndEntityCert::try_from(&der);
        let parsed = parsed.map_err(|error| TokenFault::Chain(error.to_string()))?;
        let holds = ALL_VERIFICATION_ALGS
            .iter()
            .any(|algorithm| parsed.verify_signature(*algorithm, &self.attributes, self.signature).is_ok());
        if holds { Ok(certificate) } else { Err(TokenFault::Signature) }
    }

    /// The value of a signed attribute that is there once.
    fn attribute(&self, wanted: &[u8]) -> Result<Option<&[u8]>, TokenFault> {
        const WHAT: &str = "signed attributes";
        let (mut rest, mut found) = (&self.attributes[..], None);
        let mut attributes = take(&mut rest, SET, WHAT)?;
        while !attributes.is_empty() {
            let mut attribute = take(&mut attributes, SEQUENCE, WHAT)?;
            let oid = take(&mut attribute, OID, WHAT)?;
            let value = take(&mut attribute, SET, WHAT)?;
            if oid == wanted && found.replace(value).is_some() {
                return Err(TokenFault::Malformed(WHAT));
            }
        }
        Ok(found)
    }

    /// The certificate that SigningCertificate names by its hash (RFC 5816, RFC 5035).
    fn signing_certificate(&self) -> Result<&'a [u8], TokenFault> {
        const WHAT: &str = "signingCertificate";
        let (mut value, is_second) = match self.attribute(SIGNING_CERTIFICATE_V2)? {
            Some(value) => (value, true),
            None => (self.attribute(SIGNING_CERTIFICATE)?.ok_or(TokenFault::Malformed(WHAT))?, false),
        };
        let mut named = take(&mut value, SEQUENCE, WHAT)?;
        let mut list = take(&mut named, SEQUENCE, WHAT)?;
        let mut first = take(&mut list, SEQUENCE, WHAT)?;
        let mut algorithm = if is_second { &SHA256 } else { &SHA1_FOR_LEGACY_USE_ONLY };
        if is_second && first.first() == Some(&SEQUENCE) {
            let oid = take(&mut take(&mut first, SEQUENCE, WHAT)?, OID, WHAT)?;
            let known = SHA_2.iter().find(|(known, _)| *known == oid);
            algorithm = known.map(|(_, algorithm)| *algorithm).ok_or(TokenFault::Malformed(WHAT))?;
        }
        let hash = take(&mut first, OCTETS, WHAT)?;
        let is_named = |certificate: &&&[u8]| digest(algorithm, certificate).as_ref() == hash;
        let found = self.certificates.iter().find(is_named);
        found.copied().ok_or(TokenFault::Chain("it is not the one that was signed for".into()))
    }

    fn verify_chain(
        &self,
        certificate: &[u8],
        authorities: &[TrustAnchor<'_>],
        time: u64,
    ) -> Result<(), TokenFault> {
        let refused = |error: webpki::Error| TokenFault::Chain(error.to_string());
        let der = CertificateDer::from(certificate);
        let between: Vec<_> = self.certificates.iter().map(|one| CertificateDer::from(*one)).collect();
        let at = UnixTime::since_unix_epoch(Duration::from_nanos(time));
        let usage = KeyUsage::required(TIME_STAMPING);
        let parsed = EndEntityCert::try_from(&der).map_err(refused)?;
        let path =
            parsed.verify_for_usage(ALL_VERIFICATION_ALGS, authorities, &between, at, usage, None, None);
        path.map(drop).map_err(refused)
    }
}

/// The time of a TSTInfo that answers `query`.
fn read_statement(bytes: &[u8], query: &Query) -> Result<u64, TokenFault> {
    const WHAT: &str = "TSTInfo";
    let mut rest = bytes;
    let mut info = take(&mut rest, SEQUENCE, WHAT)?;
    end(rest, WHAT)?;
    if take(&mut info, INTEGER, WHAT)? != [1] {
        return Err(TokenFault::Malformed("another version of TSTInfo"));
    }
    take(&mut info, OID, WHAT)?;
    let mut imprint = take(&mut info, SEQUENCE, WHAT)?;
    let mut algorithm = take(&mut imprint, SEQUENCE, WHAT)?;
    let is_sha256 = take(&mut algorithm, OID, WHAT)? == SHA_2[0].0;
    if !is_sha256 || take(&mut imprint, OCTETS, WHAT)? != query.imprint {
        return Err(TokenFault::Imprint);
    }
    take(&mut info, INTEGER, WHAT)?;
    let time = take(&mut info, TIME, "its time")?;
    let time = GeneralizedTime::from_bytes(time).and_then(|time| time.utc_datetime());
    let time = time.map_err(|_| TokenFault::Malformed("its time"))?;
    // Accuracy and ordering may stand before the nonce, the authority's name and extensions behind it.
    let mut nonce = None;
    while !info.is_empty() {
        let (tag, content, _) = split(&mut info, WHAT)?;
        if tag == INTEGER && nonce.replace(content).is_some() {
            return Err(TokenFault::Malformed(WHAT));
        }
    }
    if nonce != Some(&query.nonce[..]) {
        return Err(TokenFault::Nonce);
    }
    u64::try_from(time.unix_timestamp_nanos()).map_err(|_| TokenFault::Malformed("its time"))
}

fn expect_oid(rest: &mut &[u8], wanted: &[u8], what: &'static str) -> Result<(), TokenFault> {
    if take(rest, OID, what)? == wanted { Ok(()) } else { Err(TokenFault::Malformed(what)) }
}

fn end(rest: &[u8], what: &'static str) -> Result<(), TokenFault> {
    if rest.is_empty() { Ok(()) } else { Err(TokenFault::Malformed(what)) }
}

/// The content of the next element, which must have this tag.
fn take<'a>(rest: &mut &'a [u8], wanted: u8, what: &'static str) -> Result<&'a [u8], TokenFault> {
    match split(rest, what)? {
        (tag, content, _) if tag == wanted => Ok(content),
        _ => Err(TokenFault::Malformed(what)),
    }
}

/// Tag, content and whole of the next element of DER: tags of one byte, lengths below 2^32.
fn split<'a>(rest: &mut &'a [u8], what: &'static str) -> Result<(u8, &'a [u8], &'a [u8]), TokenFault> {
    let cut = || TokenFault::Malformed(what);
    let (tag, first) = (*rest.first().ok_or_else(cut)?, *rest.get(1).ok_or_else(cut)?);
    let (head, length) = match first {
        0..=0x7f => (2, usize::from(first)),
        0x81..=0x84 => {
            let head = 2 + usize::from(first & 0x7f);
            let bytes = rest.get(2..head).ok_or_else(cut)?;
            (head, bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        }
        _ => return Err(cut()),
    };
    let end = head.checked_add(length).ok_or_else(cut)?;
    let whole = rest.get(..end).ok_or_else(cut)?;
    *rest = rest.get(end..).unwrap_or_default();
    Ok((tag, whole.get(head..).unwrap_or_default(), whole))
}
