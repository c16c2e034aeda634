//! TCP keepalive: how a client that has vanished is noticed, and gives its place back.
//!
//! Clients may be idle for as long as they like. One whose machine lost its power or its network
//! says nothing either, and would hold its place of `--max-clients` for ever.

use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl,
};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// How long a connection may be silent before the kernel asks the other end. Short enough for the
/// tables of firewalls and load balancers, which forget a silent connection after minutes.
const IDLE: Duration = Duration::from_secs(60);

/// How long the kernel waits for an answer before it asks again.
const INTERVAL: Duration = Duration::from_secs(15);

/// How often it asks in vain: a client that has vanished is noticed after two minutes. Redis takes
/// ten; here its place, and later what it has leased, is worth more than a packet a minute.
const PROBES: u32 = 4;

/// Has the kernel look after `socket` from now on. Errors: it is no TCP socket, or is gone.
pub(super) fn keep_alive(socket: impl AsFd) -> io::Result<()> {
    set_tcp_keepidle(&socket, IDLE)?;
    set_tcp_keepintvl(&socket, INTERVAL)?;
    set_tcp_keepcnt(&socket, PROBES)?;
    Ok(set_socket_keepalive(&socket, true)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt::{socket_keepalive, tcp_keepcnt, tcp_keepidle, tcp_keepintvl};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernel_asks_for_silent_clients() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        keep_alive(&socket).unwrap();
        assert_eq!(socket_keepalive(&socket), Ok(true));
        assert_eq!((tcp_keepidle(&socket), tcp_keepintvl(&socket)), (Ok(IDLE), Ok(INTERVAL)));
        assert_eq!(tcp_keepcnt(&socket), Ok(PROBES));
    }
}
