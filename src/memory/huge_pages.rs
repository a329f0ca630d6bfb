//! Large blocks of memory in huge pages.

use std::alloc::{GlobalAlloc, Layout, System};

use rustix::mm::{Advice, madvise};

/// The size in bytes from which a block is worth huge pages. numpy has the same limit.
const LARGE: usize = 4 << 20;
/// The largest pages that are not huge, in bytes: whole ones everywhere. To ask for those of this
/// system might allocate.
const PAGE: usize = 64 << 10;

/// The system's allocator, with blocks of 4 MiB and more in huge pages where the system has some.
///
/// The system gives and clears new memory page by page. With 512 times as many bytes to a page it
/// takes a fraction of the time, which is most of the time that a frame beyond 32 MiB costs:
/// the C library uses the memory of smaller ones again, and that of larger ones never.
///
/// ```
/// use drpipe::memory::huge_pages::HugePages;
///
/// #[global_allocator]
/// static ALLOCATOR: HugePages = HugePages;
/// # fn main() {}
/// ```
pub struct HugePages;

// SAFETY: each method does what that of `System` does, with its arguments and its result; `advise`
// changes neither the contents nor the address of a block, and does not allocate or unwind.
unsafe impl GlobalAlloc for HugePages {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the contract, which is that of `System`.
        advise(unsafe { System.alloc(layout) }, layout.size())
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`; the block is from `System`.
        unsafe { System.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        advise(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`; the block is from `System`.
        advise(unsafe { System.realloc(block, layout, size) }, size)
    }
}

#[inline]
fn advise(block: *mut u8, size: usize) -> *mut u8 {
    if size >= LARGE && !block.is_null() {
        use_huge_pages(block, size);
    }
    block
}

#[cold]
fn use_huge_pages(block: *mut u8, size: usize) {
    let before = block.align_offset(PAGE);
    let pages = size.saturating_sub(before) / PAGE * PAGE;
    // SAFETY: these pages lie within the block, which has `size` bytes, and the advice changes
    // nothing that they hold. If the system has no huge pages it refuses, which does no harm.
    let _ = unsafe { madvise(block.wrapping_add(before).cast(), pages, Advice::LinuxHugepage) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_their_contents_whatever_their_size() {
        for size in [1, LARGE - 1, LARGE, 3 * LARGE + 5] {
            let layout = Layout::from_size_align(size, 64).unwrap();
            let larger = Layout::from_size_align(size + LARGE, 64).unwrap();
            // SAFETY: the layouts have a size, and each block is freed once, with its layout.
            unsafe {
                let block = HugePages.alloc_zeroed(layout);
                assert!((block as usize).is_multiple_of(64) && *block.add(size - 1) == 0);
                block.write_bytes(7, size);
                let block = HugePages.realloc(block, layout, larger.size());
                assert_eq!((*block, *block.add(size - 1)), (7, 7));
                block.add(size).write_bytes(8, LARGE);
                HugePages.dealloc(block, larger);
                let block = HugePages.alloc(layout);
                block.write_bytes(9, size);
                HugePages.dealloc(block, layout);
            }
        }
    }
}
