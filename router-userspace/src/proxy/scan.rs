//! The scan of a client's HTTP/1.1 bytes by itself, for those who want to know what would pass: fuzz targets.
//!
//! It opens no connection and answers nothing.

use super::{
    downstream::framing::{Bounds, Framing},
    error::Kind,
    limits::Limits,
};

/// What became of a client's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scanned {
    /// Those that an HTTP parser gets to see.
    pub passed: Vec<u8>,
    /// Request heads among them.
    pub heads: u64,
    /// Why nothing behind them is read.
    pub refused: Option<Kind>,
}

/// Scans bytes that come in parts, by the bounds that the proxy has by default.
pub fn scan(parts: &[&[u8]]) -> Scanned {
    let mut framing = Framing::new(Bounds::of(&Limits::default()));
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    for part in parts {
        held.extend_from_slice(part);
        let progress = framing.scan(&held);
        passed.extend(held.drain(..progress.passed));
        if let Some(error) = progress.refused {
            return Scanned {
                passed,
                heads: framing.heads(),
                refused: Some(error.kind),
            };
        }
    }
    Scanned {
        passed,
        heads: framing.heads(),
        refused: None,
    }
}
