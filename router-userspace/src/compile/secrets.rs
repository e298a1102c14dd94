//! Kubernetes Secrets → certificates with their keys, for those that ask for them. It shows none of what they hold.
//!
//! It knows no clock: when a certificate is valid is read here and judged by [`Compiled::findings_at`].

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use router_rules::gateway::{Credential, Key, Validity};
use rustls::{
    Error as TlsError,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_cert::{
    Certificate,
    der::Decode as _,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::{Compiled, rules::Compiler};
use crate::{
    config::{
        Document, Many, Position,
        kubernetes::{Secret, SecretFields, Sensitive},
    },
    finding::{Code, Finding, codes},
};

/// Field of the certificate.
const CERTIFICATE: &str = "tls.crt";
/// Field of the key.
const KEY: &str = "tls.key";

/// Certificates of one chain; real ones have two or three.
const MAX_CHAIN: usize = 16;

/// A certificate that is in use, and where it was written.
#[derive(Clone, Debug)]
pub struct UsedCertificate {
    credential: Arc<Credential>,
    position: Position,
    field: String,
}

/// Every Secret, read when it is first asked for.
pub(super) struct Secrets<'d> {
    by_name: BTreeMap<(&'d str, &'d str), &'d Document<Secret>>,
    /// By namespace and name; none: it has been reported.
    read: HashMap<(&'d str, &'d str), Option<UsedCertificate>>,
}

impl<'d> Secrets<'d> {
    pub(super) fn new(documents: &'d Many<Document<Secret>>) -> Self {
        let named = |document: &'d Document<Secret>| ((&*document.namespace, &*document.name), document);
        Self {
            by_name: documents.iter().map(named).collect(),
            read: HashMap::new(),
        }
    }

    /// The Secret that a rule in `namespace` means: one of its own namespace, or `NAME.NAMESPACE` as 0.1 wrote it.
    fn find(&self, namespace: &str, written: &str) -> Option<&'d Document<Secret>> {
        let own = self.by_name.get(&(namespace, written));
        let elsewhere = || {
            let (name, namespace) = written.rsplit_once('.')?;
            self.by_name.get(&(namespace, name))
        };
        own.or_else(elsewhere).copied()
    }

    /// The nearest name of the namespace.
    fn nearest(&self, namespace: &str, written: &str) -> String {
        let own = self.by_name.keys().filter(|(of, _)| *of == namespace);
        let best = own
            .map(|(_, name)| (strsim::damerau_levenshtein(name, written), name))
            .min();
        match best {
            Some((distance, name)) if distance <= 3 => format!("did you mean {name}?"),
            _ => "add the Secret to the configuration: kubectl get secret NAME -o yaml".to_owned(),
        }
    }

    /// What is used, and Secrets of no concern, which are reported.
    pub(super) fn finish(self, findings: &mut Vec<Finding>) -> Vec<UsedCertificate> {
        for (name, document) in &self.by_name {
            if !self.read.contains_key(name) && !document.body.is_for_tls() {
                let message = "Secret (v1) was skipped: it has neither tls.crt nor tls.key";
                let finding = document
                    .position
                    .finding(&codes::IGNORED_KIND, "kind", message, "");
                findings.push(finding);
            }
        }
        let mut used: Vec<_> = self.read.into_values().flatten().collect();
        used.sort_by(|a, b| a.credential.secret.cmp(&b.credential.secret));
        used
    }
}

impl Compiler<'_> {
    /// The certificate of the Secret that `tlsSecret` names. Reports when there is none.
    pub(super) fn credential(&mut self, secrets: &mut Secrets<'_>, written: &str) -> Option<Arc<Credential>> {
        let Some(document) = secrets.find(self.namespace(), written) else {
            let message = format!(
                "there is no Secret {written} in the namespace {}",
                self.namespace()
            );
            let hint = secrets.nearest(self.namespace(), written);
            self.report(&codes::UNKNOWN_SECRET, "tlsSecret", message, hint);
            return None;
        };
        let name = (&*document.namespace, &*document.name);
        let used = match secrets.read.get(&name) {
            Some(read) => read,
            None => {
                let read = read(document, self.findings());
                secrets.read.entry(name).or_insert(read)
            }
        };
        used.as_ref().map(|used| used.credential.clone())
    }
}

/// Something that is wrong with a field.
type Fault = (Code, &'static str, &'static str);

fn read(document: &Document<Secret>, findings: &mut Vec<Finding>) -> Option<UsedCertificate> {
    let mut report = |name: &str, fault: Fault| {
        let (code, message, hint) = fault;
        let field = field(&document.body, name);
        findings.push(document.position.finding(&code, &field, message, hint));
    };
    let chain = text(&document.body, CERTIFICATE, |fields| &fields.certificate).and_then(|pem| chain(&pem));
    let key = text(&document.body, KEY, |fields| &fields.key).and_then(|pem| key(&pem));
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => {
            chain
                .err()
                .into_iter()
                .for_each(|fault| report(CERTIFICATE, fault));
            key.err().into_iter().for_each(|fault| report(KEY, fault));
            return None;
        }
    };
    let (names, validity) = leaf(&chain[0]).map_err(|fault| report(CERTIFICATE, fault)).ok()?;
    let credential = Credential {
        secret: format!("{}/{}", document.namespace, document.name).into(),
        names,
        validity,
        chain: chain.iter().map(|certificate| certificate.to_vec()).collect(),
        key: Key::new(key.secret_der().to_vec()),
    };
    belongs(chain, key).map_err(|fault| report(KEY, fault)).ok()?;
    Some(UsedCertificate {
        credential: Arc::new(credential),
        field: field(&document.body, CERTIFICATE),
        position: document.position.clone(),
    })
}

/// Path of a field, where it is.
fn field(secret: &Secret, name: &str) -> String {
    let plain = &secret.string_data;
    let is_plain = match name {
        CERTIFICATE => plain.certificate.is_some(),
        _ => plain.key.is_some(),
    };
    let of = if is_plain { "stringData" } else { "data" };
    format!("{of}.{name}")
}

/// The PEM text of a field.
fn text(
    secret: &Secret,
    name: &'static str,
    of: impl Fn(&SecretFields) -> &Option<Sensitive>,
) -> Result<Vec<u8>, Fault> {
    let invalid = if name == CERTIFICATE {
        codes::INVALID_CERTIFICATE
    } else {
        codes::INVALID_KEY
    };
    if let Some(plain) = of(&secret.string_data) {
        return Ok(plain.reveal().as_bytes().to_vec());
    }
    let Some(encoded) = of(&secret.data) else {
        let message = if name == CERTIFICATE {
            "the Secret has no tls.crt"
        } else {
            "the Secret has no tls.key"
        };
        let hint = "kubectl create secret tls NAME --cert FILE --key FILE makes both";
        return Err((codes::INCOMPLETE_SECRET, message, hint));
    };
    let bytes: Vec<u8> = encoded
        .reveal()
        .bytes()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    STANDARD.decode(bytes).map_err(|_| {
        let hint = "values below `data` are in Base64; write them as they are below `stringData`";
        (invalid, "the value is not Base64", hint)
    })
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let wrong = |message| {
        let hint = "PEM is wanted: -----BEGIN CERTIFICATE-----, the server's own first, then those above it";
        (codes::INVALID_CERTIFICATE, message, hint)
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|_| wrong("the value is not PEM"))?;
    match chain.len() {
        0 => Err(wrong("there is no certificate in it")),
        1..=MAX_CHAIN => Ok(chain),
        _ => Err(wrong("there are more than 16 certificates in it")),
    }
}

fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Fault> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        let hint = "PEM is wanted, not encrypted: -----BEGIN PRIVATE KEY-----";
        (codes::INVALID_KEY, "there is no private key in it", hint)
    })
}

/// Names and validity of the server's own certificate.
fn leaf(der: &[u8]) -> Result<(Vec<String>, Validity), Fault> {
    let wrong = |_| {
        let hint = "openssl x509 -noout -text -in FILE reads what is right";
        (
            codes::INVALID_CERTIFICATE,
            "the first certificate cannot be read",
            hint,
        )
    };
    let certificate = Certificate::from_der(der).map_err(wrong)?.tbs_certificate;
    let names = certificate.get::<SubjectAltName>().map_err(wrong)?;
    let names = names
        .into_iter()
        .flat_map(|(_, names)| names.0)
        .filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
            GeneralName::IpAddress(octets) => address(octets.as_bytes()).map(|address| address.to_string()),
            _ => None,
        });
    let validity = Validity {
        from: certificate.validity.not_before.to_unix_duration().as_secs(),
        until: certificate.validity.not_after.to_unix_duration().as_secs(),
    };
    Ok((names.collect(), validity))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(octets).ok().map(IpAddr::from);
    v4().or_else(v6)
}

/// Whether a key can be used, and is that of the certificate.
fn belongs(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), Fault> {
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider)
        .map(drop)
        .map_err(|error| match error {
            TlsError::InconsistentKeys(_) => (
                codes::KEY_MISMATCH,
                "the key is not that of the first certificate in tls.crt",
                "put the server's own certificate first, and the key that it was made for beside it",
            ),
            TlsError::InvalidCertificate(_) => (
                codes::INVALID_CERTIFICATE,
                "the first certificate cannot be used",
                "an X.509 certificate of version 3 is wanted",
            ),
            _ => (
                codes::INVALID_KEY,
                "the key cannot be used",
                "RSA of at least 2048 bits, ECDSA on P-256 or P-384, and Ed25519 can be",
            ),
        })
}

impl Compiled {
    /// What there is to say at a time, in seconds since 1970 began: [`Compiled::findings`], and certificates that are not
    /// valid then.
    pub fn findings_at(&self, now: u64) -> Vec<Finding> {
        let mut findings = self.findings.clone();
        findings.extend(self.certificates.iter().filter_map(|used| used.judged(now)));
        crate::finding::sort(&mut findings);
        findings
    }
}

impl UsedCertificate {
    fn judged(&self, now: u64) -> Option<Finding> {
        let Validity { from, until } = self.credential.validity;
        let secret = &self.credential.secret;
        let (code, message, hint) = if now > until {
            let message = format!(
                "the certificate of {secret} ended at {}, and clients refuse it",
                date(until)
            );
            (
                &codes::CERTIFICATE_EXPIRED,
                message,
                "put a new one into the Secret: no restart is needed",
            )
        } else if now < from {
            let message = format!(
                "the certificate of {secret} begins at {}, and clients refuse it",
                date(from)
            );
            (
                &codes::CERTIFICATE_NOT_YET_VALID,
                message,
                "look at the node's clock, or wait",
            )
        } else {
            return None;
        };
        Some(self.position.finding(code, &self.field, message, hint))
    }
}

/// A moment as people write it, in UTC.
fn date(seconds: u64) -> String {
    let moment = i64::try_from(seconds)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok());
    moment.map_or_else(
        || "a time beyond reckoning".to_owned(),
        |moment| moment.to_string(),
    )
}

#[cfg(test)]
mod tests;
