//! How this process asks the system for memory.

/// Buffers from this size, in bytes, are mapped by themselves.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: libc::c_int = 1 << 20;

/// Has glibc map each large buffer by itself, so that it goes back to the system as soon as it is dropped.
///
/// By itself glibc stops mapping buffers of a size that was freed once, takes them from heaps of which each
/// thread has one, and keeps what lies between them: 20 to 40 MiB (ADR 0026). Other C libraries do not, and
/// nothing is done there. To be called before there are threads.
pub fn map_large_buffers() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(
            unsafe_code,
            reason = "std has no way to set up the allocator: ADR 0026"
        )]
        // SAFETY: it sets a number of the allocator, and no other thread runs yet. An allocator in glibc's
        // place may refuse it: then memory is what that one makes of it.
        let _taken = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN) };
    }
}
