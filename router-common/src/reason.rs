//! Verdicts of the kernel, by number and by name. The kernel counts, userspace prints, from one list.

use crate::pod::pod;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// What became of a connection in the kernel. The number is its counter's index.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $name = $number),+ }

        impl Reason {
            /// Every verdict, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Stable name, as metrics, logs and `explain` print it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

reasons! {
    /// The destination is no frontend; the connection was left as it was.
    NotAService = 0, "not-a-service";
    /// Sent to an endpoint.
    Routed = 1, "routed";
    /// Sent to the proxy.
    Proxied = 2, "proxied";
    /// The agent's own upstream connection.
    Own = 3, "own";
    /// The proxy is down; sent to an endpoint by the default route.
    ProxyDownDirect = 4, "proxy-down-direct";
    /// The hand-over map is full: the proxy will not know the original destination and closes the connection.
    HandoverFull = 5, "handover-full";
    /// Refused: the connection limit of the policy is reached.
    LimitReached = 16, "limit-reached";
    /// Refused: the chosen subset has no endpoint.
    NoEndpoints = 17, "no-endpoints";
    /// Refused: every weight of the rule is zero.
    NoWeight = 18, "no-weight";
    /// Refused: the proxy is down and the service wants no direct route.
    ProxyDown = 19, "proxy-down";
    /// Refused: an IPv4 socket cannot reach an IPv6 endpoint, or the proxy has no address of the socket's family.
    FamilyMismatch = 20, "family-mismatch";
    /// Refused: the socket's state could not be stored.
    NoMemory = 21, "no-memory";
    /// Refused: a map entry named another that is not there. Never seen unless the agent has a defect.
    Inconsistent = 22, "inconsistent";
    /// Refused: a rule for datagrams asks who or where the caller is, and the registry knows no such workload.
    UnknownCaller = 23, "unknown-caller";
    /// Refused: the destination is unknown, and unknown destinations are refused (`--egress registry-only`).
    UnknownDestination = 24, "unknown-destination";
}

impl Reason {
    /// True when the connection was refused.
    pub const fn is_refusal(self) -> bool {
        self as u8 >= Self::LimitReached as u8
    }

    /// From the number in a counter's index or in a route word's detail.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| *r as u8 == number)
    }
}

/// Counters of one shard, indexed by [`Reason`] number.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counters {
    /// Connections per reason.
    pub by_reason: [u64; 32],
}

pod!(Counters, 256, 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_and_come_back() {
        for &reason in Reason::ALL {
            assert!((reason as usize) < 32);
            assert_eq!(Reason::from_number(reason as u8), Some(reason));
            assert_eq!(reason.is_refusal(), reason as u8 >= 16);
        }
        assert_eq!(Reason::from_number(31), None);
    }
}
