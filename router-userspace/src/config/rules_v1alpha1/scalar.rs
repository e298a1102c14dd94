//! Values that both kinds of objects hold, some of which may be written in two ways.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::config::kubernetes::Pairs;

/// What a field that the language leaves to the implementation holds: anything, and nobody looks at it.
pub type Opaque = IgnoredAny;

/// Pairs that select instances.
pub type Labels = Pairs;

/// A service by its name, or in the structured form of 0.2.
#[derive(Debug)]
pub enum ServiceReference {
    /// `reviews.default.svc.cluster.local`, or the beginning of it.
    Name(String),
    /// Structured.
    Structured(Box<IstioService>),
}

/// A service in the structured form of 0.2.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IstioService {
    /// Short name.
    pub name: Option<String>,
    /// Namespace; the rule's own.
    pub namespace: Option<String>,
    /// What follows the namespace; `svc.cluster.local`.
    pub domain: Option<String>,
    /// The full name, instead of the three above.
    pub service: Option<String>,
    /// Labels of its instances.
    pub labels: Option<Labels>,
}

/// Load balancing as `RANDOM`, `2`, `{name: RANDOM}` or `{custom: …}`.
#[derive(Debug)]
pub struct LoadBalancing {
    /// The name or number as written.
    pub name: Option<String>,
    /// Left to the implementation.
    pub custom: Option<Opaque>,
}

/// A duration as text; a bare number is kept as text too, so that the finding can say how to write it.
#[derive(Debug)]
pub struct DurationText(
    /// The text.
    pub String,
);

/// A status by its name or number, as text.
#[derive(Debug)]
pub struct StatusText(
    /// The name or number as written.
    pub String,
);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LoadBalancingObject {
    name: Option<Box<LoadBalancing>>,
    custom: Option<Opaque>,
}

/// Takes a scalar as text, or an object.
struct ScalarOr<T, O> {
    expecting: &'static str,
    scalar: fn(String) -> T,
    object: Option<fn(O) -> T>,
    _object: PhantomData<O>,
}

impl<'de, T, O: Deserialize<'de>> Visitor<'de> for ScalarOr<T, O> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<T, E> {
        Ok((self.scalar)(value.to_owned()))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<T, E> {
        Ok((self.scalar)(value.to_string()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<T, E> {
        Ok((self.scalar)(value.to_string()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<T, E> {
        Ok((self.scalar)(value.to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let Some(object) = self.object else {
            return Err(serde::de::Error::invalid_type(serde::de::Unexpected::Map, &self));
        };
        O::deserialize(MapAccessDeserializer::new(map)).map(object)
    }
}

impl<'de> Deserialize<'de> for ServiceReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarOr {
            expecting: "a service's name",
            scalar: Self::Name,
            object: Some(Self::Structured),
            _object: PhantomData,
        })
    }
}

impl<'de> Deserialize<'de> for LoadBalancing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarOr {
            expecting: "ROUND_ROBIN, RANDOM or LEAST_CONN",
            scalar: |name| Self {
                name: Some(name),
                custom: None,
            },
            object: Some(|object: LoadBalancingObject| Self {
                name: object.name.and_then(|named| named.name),
                custom: object.custom,
            }),
            _object: PhantomData,
        })
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarOr::<Self, IgnoredAny> {
            expecting: "a duration such as \"10s\"",
            scalar: Self,
            object: None,
            _object: PhantomData,
        })
    }
}

impl<'de> Deserialize<'de> for StatusText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarOr::<Self, IgnoredAny> {
            expecting: "a status such as UNAVAILABLE",
            scalar: Self,
            object: None,
            _object: PhantomData,
        })
    }
}
