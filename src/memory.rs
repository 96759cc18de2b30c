//! What happens to memory that is no longer used.

/// Keeps memory that tensors have used for the next ones, instead of giving it back to the system each time.
///
/// A run that caches every activation fills hundreds of megabytes. Taken from the system anew, each page of them is cleared and
/// mapped first, which costs such a run about a fifth of its time. A notebook's session calls this when it starts; a program
/// of yours that runs a model many times may. The process then holds as much memory as it needed at its peak.
///
/// It changes glibc's allocator, for the whole process, where that is the allocator (Linux); elsewhere it does nothing.
///
/// ```
/// candlescope::keep_memory();
/// ```
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt may be called at any time; it only changes what the allocator does from then on.
    unsafe {
        // Nothing in mappings of its own, which end when they are freed, and no end of the heap given back.
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
        // What one thread frees is there for all.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
