//! Names and numbers of gRPC statuses and HTTP/2 error codes.
//!
//! It does not say what they are used for.

/// gRPC statuses by number.
const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// HTTP/2 error codes by number (RFC 9113, section 7).
const HTTP2: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// A gRPC status, 0..=16.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrpcStatus(u8);

/// An HTTP/2 error code, 0..=13.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Http2Error(u8);

impl GrpcStatus {
    /// From its name, in any case, or its number.
    pub fn parse(text: &str) -> Option<Self> {
        find(&GRPC, text).map(Self)
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its name: `UNAVAILABLE`.
    pub fn name(self) -> &'static str {
        GRPC[usize::from(self.0)]
    }
}

impl Http2Error {
    /// From its name, in any case, or its number.
    pub fn parse(text: &str) -> Option<Self> {
        find(&HTTP2, text).map(Self)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    /// Its name: `REFUSED_STREAM`.
    pub fn name(self) -> &'static str {
        HTTP2[usize::from(self.0)]
    }
}

fn find(names: &[&str], text: &str) -> Option<u8> {
    let by_name = || names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let number = text.parse::<usize>().ok().filter(|n| *n < names.len());
    number.or_else(by_name).and_then(|n| u8::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let unavailable = GrpcStatus::parse("unavailable").unwrap();
        assert_eq!((unavailable.number(), unavailable.name()), (14, "UNAVAILABLE"));
        assert_eq!(GrpcStatus::parse("14"), Some(unavailable));
        assert_eq!(GrpcStatus::parse("17"), None);
        assert_eq!(
            Http2Error::parse("REFUSED_STREAM").map(Http2Error::number),
            Some(7)
        );
        assert_eq!(
            Http2Error::parse("13").map(Http2Error::name),
            Some("HTTP_1_1_REQUIRED")
        );
        for text in ["14", "-1", "", "TEAPOT"] {
            assert_eq!(Http2Error::parse(text), None, "{text}");
        }
    }
}
