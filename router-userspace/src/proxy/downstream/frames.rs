//! HTTP/2 frames as they pass in one direction: their heads, and the codes of those that end something.
//!
//! It keeps a few bytes. It knows no streams, no header compression and no rules; the HTTP library does.

/// Bytes of a frame's head.
const HEAD: usize = 9;
/// Bytes of a payload that are kept: GOAWAY's last stream and code.
const KEPT: usize = 8;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flag of SETTINGS.
pub(super) const ACK: u8 = 1;
/// Flag of HEADERS and CONTINUATION.
pub(super) const END_HEADERS: u8 = 4;

/// A frame whose head has passed, with the beginning of its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// Bytes of its payload.
    pub(super) length: u32,
    payload: [u8; KEPT],
}

impl Frame {
    /// Why it ends a stream or the connection; none: it does neither.
    pub(super) fn code(&self) -> Option<u32> {
        let [a, b, c, d, e, f, g, h] = self.payload;
        match self.kind {
            RST_STREAM => Some(u32::from_be_bytes([a, b, c, d])),
            GOAWAY => Some(u32::from_be_bytes([e, f, g, h])),
            _ => None,
        }
    }
}

/// A running look at one direction of a connection.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes to skip before the next head or within a payload.
    skip: u32,
    /// The head and what is kept of the payload.
    kept: [u8; HEAD + KEPT],
    have: usize,
}

impl Frames {
    /// A direction that begins with `preface` bytes that are no frame.
    pub(super) const fn after(preface: u32) -> Self {
        Self {
            skip: preface,
            kept: [0; HEAD + KEPT],
            have: 0,
        }
    }

    /// True between two frames.
    pub(super) const fn is_between(&self) -> bool {
        self.skip == 0 && self.have == 0
    }

    /// The next frame in `bytes`, which are shortened by what was looked at; none: the rest comes later.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        loop {
            let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            *bytes = &bytes[skipped..];
            // No more than `skip` by the line above.
            self.skip -= u32::try_from(skipped).unwrap_or(self.skip);
            if self.skip > 0 || bytes.is_empty() {
                return None;
            }
            let wanted = self.wanted();
            let taken = bytes.len().min(wanted - self.have);
            self.kept[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            *bytes = &bytes[taken..];
            self.have += taken;
            if self.have == HEAD && self.wanted() > HEAD {
                continue;
            }
            if self.have == self.wanted() {
                return Some(self.complete());
            }
        }
    }

    /// Bytes to keep of the frame at hand.
    fn wanted(&self) -> usize {
        if self.have < HEAD || !matches!(self.kept[3], RST_STREAM | GOAWAY) {
            return HEAD;
        }
        HEAD + KEPT.min(usize::try_from(self.length()).unwrap_or(KEPT))
    }

    const fn length(&self) -> u32 {
        u32::from_be_bytes([0, self.kept[0], self.kept[1], self.kept[2]])
    }

    fn complete(&mut self) -> Frame {
        let mut payload = [0; KEPT];
        let kept = self.have - HEAD;
        payload[..kept].copy_from_slice(&self.kept[HEAD..self.have]);
        let frame = Frame {
            kind: self.kept[3],
            flags: self.kept[4],
            length: self.length(),
            payload,
        };
        self.skip = frame.length - u32::try_from(kept).unwrap_or(0);
        self.have = 0;
        frame
    }
}

/// A GOAWAY frame that admits no stream from now on (RFC 9113, 6.8), for a code below 256.
pub(super) const fn goaway(code: u8) -> [u8; HEAD + KEPT] {
    [
        0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, // head
        0x7f, 0xff, 0xff, 0xff, // streams so far may have been processed
        0, 0, 0, code,
    ]
}

/// Code of a GOAWAY to a client that does not keep to the protocol (RFC 9113, 7).
pub(super) const PROTOCOL_ERROR: u8 = 1;
/// Code of a GOAWAY to a client that asks for too much.
pub(super) const ENHANCE_YOUR_CALM: u8 = 11;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, 1];
        bytes.extend_from_slice(payload);
        bytes
    }

    fn seen(frames: &mut Frames, mut bytes: &[u8]) -> Vec<(u8, u32, Option<u32>)> {
        std::iter::from_fn(|| frames.next(&mut bytes))
            .map(|frame| (frame.kind, frame.length, frame.code()))
            .collect()
    }

    #[test]
    fn codes_are_read() {
        let mut frames = Frames::after(3);
        let bytes = [
            b"PRI".to_vec(),
            frame(DATA, &[0; 300]),
            frame(RST_STREAM, &[0, 0, 0, 8]),
            goaway(ENHANCE_YOUR_CALM).to_vec(),
        ]
        .concat();
        assert_eq!(
            seen(&mut frames, &bytes),
            [(DATA, 300, None), (RST_STREAM, 4, Some(8)), (GOAWAY, 8, Some(11))]
        );
        assert!(frames.is_between());
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_does_not_matter(
            list in prop::collection::vec((0_u8..12, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            cuts in prop::collection::vec(0_usize..600, 0..12),
        ) {
            let bytes: Vec<u8> = list.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            let whole = seen(&mut Frames::after(0), &bytes);
            prop_assert_eq!(whole.len(), list.len());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut frames = Frames::after(0);
            let parts: Vec<_> = cuts.windows(2).flat_map(|cut| seen(&mut frames, &bytes[cut[0]..cut[1]])).collect();
            prop_assert_eq!(whole, parts);
            prop_assert!(frames.is_between());
        }
    }
}
