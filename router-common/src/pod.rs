//! Plain-old-data: the size and alignment of every shared type are asserted here, and nowhere else is `unsafe`.

/// Asserts that a `repr(C)` type has no surprising layout and lets userspace pass it through maps.
macro_rules! pod {
    ($name:ident, $size:literal, $align:literal) => {
        const _: () = assert!(
            core::mem::size_of::<$name>() == $size,
            "size is part of the ABI"
        );
        const _: () = assert!(
            core::mem::align_of::<$name>() == $align,
            "alignment is part of the ABI"
        );

        // SAFETY: the type is `repr(C)`, made of integers only, and its fields fill it without padding (the sizes
        // above are the sums of the fields' sizes), so every bit pattern is a value and no byte is uninitialised.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $name {}
    };
}
pub(crate) use pod;
