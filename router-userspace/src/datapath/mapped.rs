//! A BPF array in this process's memory: a store here is what the kernel reads next, without a system call.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::Pod;

/// A memory-mapped array of `T`, whose size is a multiple of eight bytes.
///
/// Every access is by whole aligned `u64`s, so neither side ever sees half a word. Several words are not atomic
/// together: what must change at once is one word, and what is longer is written before a word names it.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    base: NonNull<AtomicU64>,
    entries: u32,
    bytes: usize,
    _type: PhantomData<T>,
}

// SAFETY: every access goes through atomics on memory that lives as long as the value.
unsafe impl<T> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    const WORDS: usize = size_of::<T>() / 8;
    const WHOLE_WORDS: () = assert!(size_of::<T>().is_multiple_of(8), "entries are whole words");

    /// Maps an array of `entries` entries that was created with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    ///
    /// The map is not mappable, or memory is short.
    pub(super) fn new(map: BorrowedFd<'_>, entries: u32) -> io::Result<Self> {
        const { Self::WHOLE_WORDS };
        let bytes = (entries as usize * size_of::<T>()).next_multiple_of(4096);
        // SAFETY: a new mapping of our own at an address the kernel chooses.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(address.cast()) {
            Some(base) if address != libc::MAP_FAILED => Ok(Self {
                base,
                entries,
                bytes,
                _type: PhantomData,
            }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Number of entries.
    pub(super) const fn len(&self) -> u32 {
        self.entries
    }

    /// The `word`-th `u64` of entry `index`, for loads, stores and additions.
    ///
    /// # Panics
    ///
    /// When `index` or `word` is out of range: ids come from allocators that know the range.
    pub(super) fn word(&self, index: u32, word: usize) -> &AtomicU64 {
        assert!(
            index < self.entries && word < Self::WORDS,
            "entry {index} word {word} is outside the array"
        );
        // SAFETY: inside the mapping by the assertion, aligned because entries are whole words, and only ever
        // accessed atomically.
        unsafe { self.base.add(index as usize * Self::WORDS + word).as_ref() }
    }

    /// Entry `index`, read word by word.
    pub(super) fn get(&self, index: u32) -> T {
        let mut value = std::mem::MaybeUninit::<T>::uninit();
        for word in 0..Self::WORDS {
            let bits = self.word(index, word).load(Ordering::Acquire);
            // SAFETY: within `value`, which is made of `WORDS` words.
            unsafe { value.as_mut_ptr().cast::<u64>().add(word).write_unaligned(bits) };
        }
        // SAFETY: every word was written, and `Pod` admits every bit pattern.
        unsafe { value.assume_init() }
    }

    /// Writes entry `index` word by word.
    pub(super) fn set(&self, index: u32, value: &T) {
        for word in 0..Self::WORDS {
            self.set_word(index, word, value);
        }
    }

    /// Writes one word of entry `index`, taken from `value`; the others stay.
    pub(super) fn set_word(&self, index: u32, word: usize, value: &T) {
        let target = self.word(index, word);
        // SAFETY: `word` is below `WORDS` (asserted just now), and `value` is made of that many words without padding
        // (`Pod`).
        let bits = unsafe { (&raw const *value).cast::<u64>().add(word).read_unaligned() };
        target.store(bits, Ordering::Release);
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nothing refers to any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}
