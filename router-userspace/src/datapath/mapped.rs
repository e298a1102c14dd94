//! A BPF array in this process's memory: a store here is what the kernel reads next, without a system call.
//!
//! The kernel populates a mapping of such an array at once and counts every page of it as resident, so the arrays are
//! mapped by windows, each when it is first needed, and who writes them lets go of them again: memory follows use, not
//! capacity.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd, OwnedFd},
    ptr::NonNull,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use aya::Pod;

/// Bytes of a window: a multiple of every page size, and of every entry's size.
const WINDOW: usize = 64 * 1024;

/// A memory-mapped array of `T`, whose size is a power of two and at least eight bytes.
///
/// Every access is by whole aligned `u64`s, so neither side ever sees half a word. Several words are not atomic
/// together: what must change at once is one word, and what is longer is written before a word names it.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    map: OwnedFd,
    entries: u32,
    windows: Box<[OnceLock<Window>]>,
    _type: PhantomData<T>,
}

/// A mapped part of an array.
#[derive(Debug)]
struct Window {
    base: NonNull<AtomicU64>,
    bytes: usize,
}

// SAFETY: every access goes through atomics on memory that lives as long as the value.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl<T: Pod> Mapped<T> {
    const WORDS: usize = size_of::<T>() / 8;
    const PER_WINDOW: usize = WINDOW / size_of::<T>();
    const FITS: () = assert!(size_of::<T>() >= 8 && size_of::<T>().is_power_of_two());

    /// An array of `entries` entries that was created with `BPF_F_MMAPABLE`. Nothing is mapped yet.
    pub(super) fn new(map: OwnedFd, entries: u32) -> Self {
        const { Self::FITS };
        let windows = (entries as usize).div_ceil(Self::PER_WINDOW);
        Self {
            map,
            entries,
            windows: std::iter::repeat_with(OnceLock::new).take(windows).collect(),
            _type: PhantomData,
        }
    }

    /// Number of entries.
    pub(super) const fn len(&self) -> u32 {
        self.entries
    }

    /// Bytes that are mapped now.
    pub(super) fn bytes(&self) -> usize {
        let windows = self.windows.iter().filter_map(OnceLock::get);
        windows.map(|window| window.bytes).sum()
    }

    /// Lets go of what is mapped; it is mapped again when it is needed. The array stays as it is.
    pub(super) fn unmap(&mut self) {
        for window in &mut self.windows {
            window.take();
        }
    }

    /// The `word`-th `u64` of entry `index`, for loads, stores and additions.
    ///
    /// # Errors
    ///
    /// The part of the array that holds it could not be mapped: memory is short.
    ///
    /// # Panics
    ///
    /// When `index` or `word` is out of range: callers check ids against [`Mapped::len`].
    pub(super) fn word(&self, index: u32, word: usize) -> io::Result<&AtomicU64> {
        assert!(
            index < self.entries && word < Self::WORDS,
            "entry {index} word {word} is outside the array"
        );
        let (window, entry) = (
            index as usize / Self::PER_WINDOW,
            index as usize % Self::PER_WINDOW,
        );
        let window = self.window(window)?;
        // SAFETY: inside the window by the assertion and the arithmetic above, aligned because entries are whole
        // words, and only ever accessed atomically.
        Ok(unsafe { window.base.add(entry * Self::WORDS + word).as_ref() })
    }

    /// Entry `index`, read word by word; zeros when it lies beyond the array, or cannot be mapped for want of memory.
    pub(super) fn get(&self, index: u32) -> T
    where
        T: Default,
    {
        self.read(index).unwrap_or_default()
    }

    fn read(&self, index: u32) -> io::Result<T> {
        if index >= self.entries {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut value = std::mem::MaybeUninit::<T>::uninit();
        for word in 0..Self::WORDS {
            let bits = self.word(index, word)?.load(Ordering::Acquire);
            // SAFETY: within `value`, which is made of `WORDS` words.
            unsafe { value.as_mut_ptr().cast::<u64>().add(word).write_unaligned(bits) };
        }
        // SAFETY: every word was written, and `Pod` admits every bit pattern.
        Ok(unsafe { value.assume_init() })
    }

    /// Writes entry `index` word by word.
    pub(super) fn set(&self, index: u32, value: &T) -> io::Result<()> {
        (0..Self::WORDS).try_for_each(|word| self.set_word(index, word, value))
    }

    /// Writes one word of entry `index`, taken from `value`; the others stay.
    pub(super) fn set_word(&self, index: u32, word: usize, value: &T) -> io::Result<()> {
        let target = self.word(index, word)?;
        // SAFETY: `word` is below `WORDS` (asserted just now), and `value` is made of that many words without
        // padding (`Pod`).
        let bits = unsafe { (&raw const *value).cast::<u64>().add(word).read_unaligned() };
        target.store(bits, Ordering::Release);
        Ok(())
    }

    fn window(&self, number: usize) -> io::Result<&Window> {
        let cell = &self.windows[number];
        if let Some(window) = cell.get() {
            return Ok(window);
        }
        let all = (self.entries as usize * size_of::<T>()).next_multiple_of(page_size());
        let offset = number * WINDOW;
        let fresh = Window::map(&self.map, offset, WINDOW.min(all - offset))?;
        // Another thread may have been first; its window stays and ours is unmapped again.
        Ok(cell.get_or_init(|| fresh))
    }
}

impl Window {
    fn map(map: &OwnedFd, offset: usize, bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping of our own at an address the kernel chooses.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                protection,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                offset,
            )
        };
        match NonNull::new(address.cast()) {
            Some(base) if address != libc::MAP_FAILED => Ok(Self { base, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nothing refers to any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

fn page_size() -> usize {
    // SAFETY: a call without pointers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
