//! Addresses and ports as both sides store them. Byte order lives in the type.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::pod::pod;

/// A port in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Be16(pub u16);

impl Be16 {
    /// From a port number as people write it.
    pub const fn from_port(port: u16) -> Self {
        Self(port.to_be())
    }

    /// The port number as people write it.
    pub const fn port(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// An IPv6 address, or an IPv4 address in its v4-mapped form (`::ffff:a.b.c.d`), as four words in network order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Addr(pub [u32; 4]);

/// Third word of a v4-mapped address, in network order.
pub const V4_MAPPED: u32 = 0x0000_ffff_u32.to_be();

impl Addr {
    /// From an IPv4 address whose four bytes are in network order, as `bpf_sock_addr.user_ip4` holds them.
    #[inline(always)]
    pub const fn from_be4(word: u32) -> Self {
        Self([0, 0, V4_MAPPED, word])
    }

    /// True for `::ffff:0:0/96`.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == V4_MAPPED
    }

    /// The IPv4 address in network order; meaningful when [`Addr::is_v4`].
    #[inline(always)]
    pub const fn be4(&self) -> u32 {
        self.0[3]
    }

    /// From the standard library's type.
    pub const fn from_ip(ip: IpAddr) -> Self {
        let bytes = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let mut words = [0; 4];
        let mut i = 0;
        while i < 4 {
            words[i] =
                u32::from_ne_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
            i += 1;
        }
        Self(words)
    }

    /// To the standard library's type; v4-mapped addresses come back as IPv4.
    pub const fn to_ip(self) -> IpAddr {
        if self.is_v4() {
            let b = self.0[3].to_ne_bytes();
            return IpAddr::V4(Ipv4Addr::new(b[0], b[1], b[2], b[3]));
        }
        let mut bytes = [0; 16];
        let mut i = 0;
        while i < 16 {
            bytes[i] = self.0[i / 4].to_ne_bytes()[i % 4];
            i += 1;
        }
        IpAddr::V6(Ipv6Addr::from_octets(bytes))
    }
}

pod!(Addr, 16, 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["10.1.2.3", "::1", "fd77::1234:5", "0.0.0.0", "255.255.255.255"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(Addr::from_ip(ip).to_ip(), ip);
        }
    }

    #[test]
    fn v4_is_stored_mapped_in_network_order() {
        let addr = Addr::from_ip(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)));
        assert!(addr.is_v4());
        assert_eq!(addr, Addr::from_be4(u32::from_ne_bytes([10, 1, 2, 3])));
    }

    #[test]
    fn ports_are_stored_in_network_order() {
        assert_eq!(Be16::from_port(80).0.to_ne_bytes(), [0, 80]);
        assert_eq!(Be16::from_port(9080).port(), 9080);
    }
}
