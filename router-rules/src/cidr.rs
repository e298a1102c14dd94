//! Sets of subnets of both families: parsed, canonical, tested.
//!
//! It does not know whose addresses are tested.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A family of addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4, v4-mapped IPv6 addresses included.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Subnets of which an address must be in one. None at all: every address will do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Subnets(Box<[IpNet]>);

impl Subnets {
    /// Every address will do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The subnets, those inside another left out.
    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }

    /// True when `address` is in one of them, or there are none. A v4-mapped address is the IPv4 address.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.is_empty() || self.0.iter().any(|net| net.contains(&address))
    }

    /// True when every address that `others` contain is in one of them.
    pub fn cover(&self, others: &Self) -> bool {
        let in_one = |other: &IpNet| self.0.iter().any(|net| net.contains(other));
        self.is_empty() || !others.is_empty() && others.0.iter().all(in_one)
    }

    /// True when an address of `family` can be in one of them.
    pub fn have(&self, family: Family) -> bool {
        self.is_empty() || self.0.iter().any(|net| Family::of(net.addr()) == family)
    }
}

impl FromIterator<IpNet> for Subnets {
    /// Bits behind a prefix do not count; subnets inside another are dropped; the order does not matter.
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        Self(IpNet::aggregate(&nets.into_iter().map(|net| net.trunc()).collect()).into())
    }
}

impl fmt::Display for Subnets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, net) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" or ")?;
            }
            if net.prefix_len() == net.max_prefix_len() {
                write!(f, "{}", net.addr())?;
            } else {
                write!(f, "{net}")?;
            }
        }
        Ok(())
    }
}

/// The text is neither an address nor an address and a prefix length.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no subnet")]
pub struct NoSubnet(String);

/// Reads `ADDRESS` or `ADDRESS/PREFIX`, of either family. A v4-mapped subnet is the IPv4 subnet.
///
/// # Errors
///
/// It is neither.
pub fn parse(text: &str) -> Result<IpNet, NoSubnet> {
    let no_subnet = || NoSubnet(text.to_owned());
    let net = match text.contains('/') {
        true => text.parse::<IpNet>().map_err(|_| no_subnet())?,
        false => IpNet::from(text.parse::<IpAddr>().map_err(|_| no_subnet())?),
    };
    Ok(match net {
        IpNet::V6(net) => mapped(net).map_or(IpNet::V6(net), IpNet::V4),
        net => net,
    })
}

/// The IPv4 subnet that a v4-mapped one stands for.
fn mapped(net: Ipv6Net) -> Option<Ipv4Net> {
    const MAPPED: u8 = 96;
    let v4: Ipv4Addr = net.addr().to_ipv4_mapped()?;
    Ipv4Net::new(v4, net.prefix_len().checked_sub(MAPPED)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(text: &str) -> Subnets {
        text.split_whitespace().map(|t| parse(t).unwrap()).collect()
    }

    #[test]
    fn addresses_are_in_a_subnet_of_their_family() {
        let some = subnets("10.1.0.7/16 192.0.2.1 fd00:1::/32");
        for (address, expected) in [
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("::ffff:10.1.2.3", true),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("fd00:1:2::3", true),
            ("fd00:2::3", false),
        ] {
            assert_eq!(some.contain(address.parse().unwrap()), expected, "{address}");
        }
        assert!(some.have(Family::V4) && some.have(Family::V6));
        assert!(!subnets("::/0").have(Family::V4) && !subnets("::/0").contain([10, 0, 0, 1].into()));
        assert!(subnets("").contain([10, 0, 0, 1].into()) && subnets("").have(Family::V6));
        assert!(some.cover(&subnets("10.1.2.0/24 192.0.2.1")) && !some.cover(&subnets("10.0.0.0/8")));
        assert!(subnets("").cover(&some) && !some.cover(&subnets("")));
    }

    #[test]
    fn equal_sets_are_equal_however_they_are_written() {
        assert_eq!(subnets("10.0.0.9/8 10.1.0.0/16"), subnets("10.0.0.0/8"));
        assert_eq!(subnets("::ffff:10.0.0.0/104"), subnets("10.0.0.0/8"));
        assert_eq!(subnets("fd00::1 10.0.0.1"), subnets("10.0.0.1 fd00::1"));
        assert_eq!(
            subnets("10.0.0.1/32 fd00::/8").to_string(),
            "10.0.0.1 or fd00::/8"
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0.0/",
            "a/8",
            "10.0.0.0/-1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
