//! Addresses as they are kept: as numbers, in place. What is no address is kept as it was written, to be reported.

use std::{fmt, net::IpAddr};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// An address, or the text that is none.
pub type Address = Result<IpAddr, Box<str>>;

/// Addresses in order. Nearly always it is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Addresses {
    /// A sound one.
    One(IpAddr),
    /// Any others.
    Many(Box<[Address]>),
}

impl Default for Addresses {
    fn default() -> Self {
        Self::Many(Box::default())
    }
}

impl Addresses {
    /// One after the other, with the texts that are none.
    pub fn iter(&self) -> impl Iterator<Item = Result<IpAddr, &str>> {
        let (one, many) = match self {
            Self::One(address) => (Some(*address), &[][..]),
            Self::Many(many) => (None, &**many),
        };
        let many = many.iter().map(|address| match address {
            Ok(address) => Ok(*address),
            Err(text) => Err(&**text),
        });
        one.into_iter().map(Ok).chain(many)
    }

    /// Those that are addresses.
    pub fn sound(&self) -> impl Iterator<Item = IpAddr> {
        self.iter().filter_map(Result::ok)
    }

    /// The first one.
    pub fn first(&self) -> Option<Result<IpAddr, &str>> {
        self.iter().next()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.first().is_none()
    }
}

impl FromIterator<Address> for Addresses {
    fn from_iter<I: IntoIterator<Item = Address>>(addresses: I) -> Self {
        let mut addresses = addresses.into_iter();
        match (addresses.next(), addresses.next()) {
            (None, _) => Self::default(),
            (Some(Ok(only)), None) => Self::One(only),
            (first, second) => Self::Many(first.into_iter().chain(second).chain(addresses).collect()),
        }
    }
}

/// An address as it is written.
pub(super) struct WrittenAddress(pub(super) Address);

impl<'de> Deserialize<'de> for WrittenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = WrittenAddress;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<WrittenAddress, E> {
                Ok(WrittenAddress(text.parse().map_err(|_| text.into())))
            }
        }

        deserializer.deserialize_str(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_kept() {
        let of = |texts: &[&str]| -> Addresses {
            let address = |text: &&str| text.parse().map_err(|_| Box::from(*text));
            texts.iter().map(address).collect()
        };
        let one: IpAddr = [10, 0, 0, 1].into();
        assert_eq!(of(&["10.0.0.1"]), Addresses::One(one));
        assert!(of(&[]).is_empty());
        let two = of(&["None", "10.0.0.1"]);
        assert_eq!(two.iter().collect::<Vec<_>>(), [Err("None"), Ok(one)]);
        assert_eq!(two.sound().collect::<Vec<_>>(), [one]);
        assert_eq!(of(&["x"]).first(), Some(Err("x")));
        assert_eq!(size_of::<Addresses>(), 24);
    }
}
