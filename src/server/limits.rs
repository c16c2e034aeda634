//! What the process gets from its system: open files, and memory.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files as far as the system allows and answers it; None: there is no
/// limit.
pub fn raise_open_files() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if raised.is_ok() { maximum } else { current }
}

/// Refuses when `max_clients` and `reserve` other files do not fit into `limit`. The error is one
/// line.
pub fn check_open_files(
    limit: Option<u64>,
    max_clients: usize,
    reserve: u64,
) -> Result<(), String> {
    let wanted = (max_clients as u64).saturating_add(reserve);
    match limit {
        Some(limit) if limit < wanted => Err(format!(
            "{max_clients} clients need {wanted} open files and the limit is {limit}: \
             raise it (ulimit -n) or lower --max-clients"
        )),
        _ => Ok(()),
    }
}

/// Has all threads allocate from one heap; called before there are others. Else glibc makes up to
/// eight heaps ("arenas") for each processor, and those that are not the first grow page by page:
/// where messages are kept in memory, that is a call into the system for every 30 of them.
pub fn share_one_heap() {
    // SAFETY: the call sets a limit of the allocator's; no other thread allocates meanwhile.
    #[cfg(target_env = "gnu")]
    unsafe {
        // Where it is refused, there are more heaps.
        let _is_set = libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_and_reserve_must_fit_into_the_limit() {
        assert!(check_open_files(Some(300), 256, 44).is_ok());
        assert!(check_open_files(None, 100_000, 64).is_ok());
        let refused = check_open_files(Some(299), 256, 44).unwrap_err();
        assert!(refused.contains("300 open files and the limit is 299"), "{refused}");
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let limit = raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current, limit);
    }
}
