//! This thread's network namespace.

use std::{io, os::fd::AsRawFd as _};

/// `SO_NETNS_COOKIE` of a socket of this thread's network namespace: a number
/// that no other namespace has or will have.
///
/// # Errors
/// Before Linux 5.14.
pub(crate) fn cookie() -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the pointers are to a u64 and to its size, and live through the call.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if status == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}
