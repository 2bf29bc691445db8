//! How this process asks the system for memory.

/// Buffers from this size, in bytes, are mapped by themselves.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES_MIN: libc::c_int = 1 << 20;
/// What may be free at the end of a heap, in bytes. Where nothing is set glibc takes twice the largest buffer that
/// it has seen, and otherwise so little that heaps would shrink and grow all the time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const FREE_BYTES_MAX: libc::c_int = 2 << 20;

/// Has glibc map each large buffer by itself, so that it goes back to the system as soon as it is dropped.
///
/// By itself glibc stops mapping buffers of a size that was freed once, takes them from heaps of which each
/// thread has one, and keeps what lies between them: 20 to 40 MiB (ADR 0026). Other C libraries do not, and
/// nothing is done there. To be called before there are threads.
pub fn map_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (setting, value) in [
        (libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN),
        (libc::M_TRIM_THRESHOLD, FREE_BYTES_MAX),
    ] {
        #[expect(
            unsafe_code,
            reason = "std has no way to set up the allocator: ADR 0026"
        )]
        // SAFETY: it sets a number of the allocator, and no other thread runs yet. An allocator in glibc's
        // place may refuse it: then memory is what that one makes of it.
        let _taken = unsafe { libc::mallopt(setting, value) };
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn dropped_buffers_go_back_to_the_system() {
        let resident_mib = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
            (pages * rustix::param::page_size()) >> 20
        };
        map_large_buffers();
        // Without the setting, buffers up to this size would come from a heap from now on.
        drop(vec![1_u8; 4 << 20]);
        let before = resident_mib();
        let buffers: Vec<Vec<u8>> = (0..32).map(|_| vec![1; 2 << 20]).collect();
        // What lies behind them keeps a heap from shrinking.
        let behind = vec![1_u8; 1000];
        assert!(resident_mib() >= before + 60);
        drop(buffers);
        assert!(resident_mib() <= before + 10);
        drop(behind);
    }
}
