//! A long way to a server on this machine: a TCP relay that hands on every byte a fixed time later.
//!
//! Each piece is delayed by itself, none waits for the one before it, so the way is long and not narrow. Opening a
//! connection takes what a handshake takes on such a way.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{During as _, Result};

/// How much is read at once.
const PIECE: usize = 64 * 1024;

/// How many pieces may be on the way in one direction: half a gigabyte, far more than any window of SSH.
const ON_THE_WAY: usize = 8192;

/// Bytes, and when they arrive.
type Piece = (Instant, Vec<u8>);

/// Opens a port of 127.0.0.1 that leads to `to`, `one_way` later. It stays open as long as this process lives.
pub fn open(to: SocketAddr, one_way: Duration) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).during("open a port for a long way")?;
    let address = listener.local_addr().during("ask for the port of a long way")?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A connection that breaks is seen at both its ends; there is nobody else to tell.
            thread::spawn(move || carry(client, to, one_way).unwrap_or_default());
        }
    });
    Ok(address)
}

/// Carries one connection in both directions until both ends are closed.
fn carry(client: TcpStream, to: SocketAddr, one_way: Duration) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let towards = receive(client.try_clone()?, one_way);
    // The server's program sees a connection after SYN, SYN-ACK and ACK; the client's was accepted at once here.
    thread::sleep(one_way * 3);
    let server = match TcpStream::connect(to) {
        Ok(server) => server,
        // The thread that reads holds the connection open, too.
        Err(error) => return client.shutdown(Shutdown::Both).and(Err(error)),
    };
    server.set_nodelay(true)?;
    let back = receive(server.try_clone()?, one_way);
    thread::spawn(move || deliver(server, &towards));
    deliver(client, &back);
    Ok(())
}

/// Reads as fast as it comes, and notes for each piece when it arrives.
fn receive(mut from: TcpStream, one_way: Duration) -> Receiver<Piece> {
    let (sender, receiver): (SyncSender<Piece>, Receiver<Piece>) = sync_channel(ON_THE_WAY);
    thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            let piece = buffer.get(..count).unwrap_or_default().to_vec();
            // The end travels too, as a piece without bytes.
            if sender.send((Instant::now() + one_way, piece)).is_err() || count == 0 {
                return;
            }
        }
    });
    receiver
}

/// Writes each piece when its time has come.
fn deliver(mut to: TcpStream, pieces: &Receiver<Piece>) {
    for (arrival, piece) in pieces {
        thread::sleep(arrival.saturating_duration_since(Instant::now()));
        if piece.is_empty() || to.write_all(&piece).is_err() {
            break;
        }
    }
    // The other side may have closed it already.
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::{PIECE, open};

    /// A server that sends back what it gets.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                thread::spawn(move || std::io::copy(&mut client.try_clone().unwrap(), &mut &client));
            }
        });
        address
    }

    #[test]
    fn an_answer_takes_the_way_there_and_the_way_back() {
        let one_way = Duration::from_millis(40);
        let mut client = TcpStream::connect(open(echo(), one_way).unwrap()).unwrap();
        let mut answer = [0; 5];
        let started = Instant::now();
        client.write_all(b"first").unwrap();
        client.read_exact(&mut answer).unwrap();
        assert!(started.elapsed() >= one_way * 4, "the handshake, and there and back");
        let started = Instant::now();
        client.write_all(b"again").unwrap();
        client.read_exact(&mut answer).unwrap();
        assert!(started.elapsed() >= one_way * 2, "there and back");
        assert_eq!(&answer, b"again");
    }

    /// A relay that waited for each piece by itself would need 512 times the way, which is minutes.
    #[test]
    fn a_long_way_is_not_a_narrow_one() {
        let one_way = Duration::from_millis(500);
        let mut client = TcpStream::connect(open(echo(), one_way).unwrap()).unwrap();
        let started = Instant::now();
        let mut reader = client.try_clone().unwrap();
        let received = thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let sent: Vec<u8> = (0..512 * PIECE).map(|index| u8::try_from(index % 251).unwrap()).collect();
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(received.join().unwrap() == sent, "every byte comes back, in order");
        assert!(started.elapsed() < one_way * 256);
    }

    #[test]
    fn a_server_that_is_not_there_ends_the_connection() {
        let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let mut client = TcpStream::connect(open(closed, Duration::from_millis(1)).unwrap()).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    }
}
