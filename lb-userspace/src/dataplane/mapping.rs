//! A BPF array map seen as memory.

use std::{
    fs::File,
    io,
    marker::PhantomData,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering},
};

use bytemuck::Pod;
use memmap2::{MmapOptions, MmapRaw};

/// The values of a `BPF_F_MMAPABLE` array map, read and written without system
/// calls. Every access is of whole 64-bit words and atomic, because packets
/// read and write the same memory.
pub struct Mapping<T> {
    raw: MmapRaw,
    len: u32,
    record: PhantomData<T>,
}

impl<T: Pod> Mapping<T> {
    const WORDS: usize = size_of::<T>() / 8;

    /// Maps the `len` records of the array map behind `fd`.
    ///
    /// # Errors
    /// When the kernel refuses (the map lacks `BPF_F_MMAPABLE`, or memory is short).
    pub fn new(fd: BorrowedFd<'_>, len: u32) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8) && size_of::<T>() > 0) };
        let file = File::from(fd.try_clone_to_owned()?);
        let raw = MmapOptions::new()
            .len(len as usize * size_of::<T>())
            .map_raw(&file)?;
        Ok(Self {
            raw,
            len,
            record: PhantomData,
        })
    }

    /// `len` zeroed records in memory of this process, for tests and trials of
    /// what otherwise works on a map.
    ///
    /// # Errors
    /// When memory is short.
    pub fn anonymous(len: u32) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8) && size_of::<T>() > 0) };
        let raw = MmapOptions::new()
            .len(len as usize * size_of::<T>())
            .map_anon()?
            .into();
        Ok(Self {
            raw,
            len,
            record: PhantomData,
        })
    }

    /// Number of records.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Word `word` of record `index`.
    ///
    /// # Panics
    /// When either is out of range.
    pub fn word(&self, index: u32, word: usize) -> &AtomicU64 {
        assert!(
            index < self.len && word < Self::WORDS,
            "record {index} word {word} of {}",
            self.len
        );
        let offset = index as usize * Self::WORDS + word;
        // SAFETY: in bounds by the assertion; the mapping is page-aligned and
        // lives as long as self; the words are only ever accessed atomically.
        unsafe { AtomicU64::from_ptr(self.raw.as_mut_ptr().cast::<u64>().add(offset)) }
    }

    /// A copy of record `index`; each word is read atomically, the record is not.
    ///
    /// # Panics
    /// When `index` is out of range.
    pub fn get(&self, index: u32) -> T {
        let mut value = T::zeroed();
        for (word, out) in bytemuck::bytes_of_mut(&mut value)
            .chunks_exact_mut(8)
            .enumerate()
        {
            out.copy_from_slice(&self.word(index, word).load(Ordering::Acquire).to_ne_bytes());
        }
        value
    }

    /// Writes record `index` word by word, the first word last: readers that
    /// check a key or state there first never meet a half-written record as new.
    ///
    /// # Panics
    /// When `index` is out of range.
    pub fn set(&self, index: u32, value: T) {
        let bytes = bytemuck::bytes_of(&value);
        for word in (0..Self::WORDS).rev() {
            let mut buffer = [0; 8];
            buffer.copy_from_slice(&bytes[word * 8..word * 8 + 8]);
            self.word(index, word)
                .store(u64::from_ne_bytes(buffer), Ordering::Release);
        }
    }
}
