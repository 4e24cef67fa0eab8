//! Memory given back to the kernel by a program that has done its work for now.

use std::ffi::{c_int, c_void};

/// Gives back what the allocator holds free, and lets go of the pages of the program's own file. Those that are needed
/// again are found in the page cache, at the cost of a minor fault for each few of them.
pub fn give_back() {
    // SAFETY: nothing that is allocated is touched.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    // SAFETY: the function is called before this returns, with the pointer to the list that is given here.
    unsafe { libc::dl_iterate_phdr(Some(note_segments), (&raw mut ranges).cast()) };
    // SAFETY: it asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Ok(page) = usize::try_from(page) else { return };
    for (start, end) in ranges {
        let (start, end) = (start.next_multiple_of(page), end / page * page);
        if start < end {
            // SAFETY: the pages belong to a segment of the program's file that is never written to, so the kernel puts
            // the same content there when they are next looked at. A failure leaves them as they are.
            unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
}

/// Notes where the segments are that the first object, which is the program, has from its file and does not write to.
unsafe extern "C" fn note_segments(info: *mut libc::dl_phdr_info, _: libc::size_t, ranges: *mut c_void) -> c_int {
    // SAFETY: the C library passes a description that is valid for this call, and the pointer that `give_back` gave it.
    let (info, ranges) = unsafe { (&*info, &mut *ranges.cast::<Vec<(usize, usize)>>()) };
    for index in 0..usize::from(info.dlpi_phnum) {
        // SAFETY: there are so many headers from this address on.
        let header = unsafe { &*info.dlpi_phdr.add(index) };
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0 {
            let start = info.dlpi_addr as usize + header.p_vaddr as usize;
            ranges.push((start, start + header.p_memsz as usize));
        }
    }
    // A value other than 0 ends the walk.
    1
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_runs_on() {
        let before: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        super::give_back();
        assert_eq!(before.concat().len(), 10 + 180 + 2700);
    }
}
