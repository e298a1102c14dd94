//! Certificates of an authority that exists for one test.

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

/// Who issues certificates, and is trusted by clients that are told so.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub struct Issued {
    /// The certificate in DER.
    pub certificate: Vec<u8>,
    /// The same in PEM.
    pub certificate_pem: String,
    /// The key in DER (PKCS#8).
    pub key: Vec<u8>,
    /// The same in PEM.
    pub key_pem: String,
}

/// When a certificate is valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Valid {
    /// Now and for a long time.
    Now,
    /// Until the end of the year 2000.
    Formerly,
    /// From the year 4000 on.
    Later,
}

impl Authority {
    /// Makes an authority.
    ///
    /// # Errors
    ///
    /// There is no randomness.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "router's tests");
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate in DER.
    pub fn der(&self) -> &[u8] {
        self.0.der()
    }

    /// Its own certificate in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate for hosts: names and addresses.
    ///
    /// # Errors
    ///
    /// A name is none.
    pub fn issue(&self, hosts: &[&str], valid: Valid) -> Result<Issued> {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts)?;
        match valid {
            Valid::Now => {}
            Valid::Formerly => params.not_after = date_time_ymd(2000, 12, 31),
            Valid::Later => params.not_before = date_time_ymd(4000, 1, 1),
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        Ok(Issued {
            certificate: certificate.der().to_vec(),
            certificate_pem: certificate.pem(),
            key: key.serialize_der(),
            key_pem: key.serialize_pem(),
        })
    }
}

impl Issued {
    /// A Kubernetes Secret that holds it, as kubectl prints it.
    pub fn secret(&self, name: &str) -> String {
        let encoded = |pem: &str| STANDARD.encode(pem);
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: default\n\
             type: kubernetes.io/tls\ndata:\n  tls.crt: {}\n  tls.key: {}\n",
            encoded(&self.certificate_pem),
            encoded(&self.key_pem)
        )
    }
}
