//! Secrets: the two fields that hold a certificate and its key. What they hold is never shown.
//!
//! It does not know what a certificate is.

use std::fmt;

use serde::{Deserialize, Deserializer};

use super::written::{Metadata, null_as_default};

/// A secret. Of its fields only those of the type `kubernetes.io/tls` are read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Secret {
    metadata: Metadata,
    /// `kubernetes.io/tls` and others.
    pub r#type: Option<Box<str>>,
    /// Values in Base64.
    #[serde(deserialize_with = "null_as_default")]
    pub data: SecretFields,
    /// Values as they are; they count before those of `data`.
    #[serde(deserialize_with = "null_as_default")]
    pub string_data: SecretFields,
}

/// Fields of a secret.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SecretFields {
    /// The certificate and those above it, in PEM.
    #[serde(rename = "tls.crt")]
    pub certificate: Option<Sensitive>,
    /// Its private key, in PEM.
    #[serde(rename = "tls.key")]
    pub key: Option<Sensitive>,
}

impl Secret {
    /// True when it has, or should have, a certificate and a key.
    pub fn is_for_tls(&self) -> bool {
        let fields = [&self.data, &self.string_data];
        let is_there = |fields: &SecretFields| fields.certificate.is_some() || fields.key.is_some();
        self.r#type.as_deref() == Some("kubernetes.io/tls") || fields.into_iter().any(is_there)
    }
}

/// A text that is not shown to anybody.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(Box<str>);

impl Sensitive {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sensitive(…)")
    }
}

impl<'de> Deserialize<'de> for Sensitive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::deserialize(deserializer).map(Self)
    }
}
