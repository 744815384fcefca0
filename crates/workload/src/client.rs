//! [`Client`]: the host's side, blocking, over the Unix socket that QEMU makes
//! of the port.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

use dynmem_agent_protocol::{LineDecoder, ProtocolError, encode};
use dynmem_units::Bytes;

use crate::message::{Answer, Call, Grouped, Request, Response, Spiked, Status, Verified};

/// How often a growing workload is asked how it goes.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long each of these questions may take before it is asked again.
const ASK_PATIENCE: Duration = Duration::from_secs(3);

/// Why a call has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket can't be reached or broke.
    #[error("Workload socket: {0}")]
    Socket(#[from] std::io::Error),
    /// QEMU closed the connection.
    #[error("Workload socket is closed: the machine is gone")]
    Closed,
    /// No answer in time; a later call skips it if it comes after all.
    #[error("Workload has not answered {request} within {patience:?}")]
    Silent {
        /// What was asked.
        request: String,
        /// How long was waited.
        patience: Duration,
    },
    /// The workload would not or could not.
    #[error("Workload refused: {0}")]
    Refused(String),
    /// An answer to another question.
    #[error("Workload answered {request} with {response}")]
    Unexpected {
        /// What was asked.
        request: String,
        /// What came.
        response: String,
    },
    /// A request that makes no sense.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// A connection to one guest's workload. QEMU serves one at a time.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    decoder: LineDecoder,
    next_id: u64,
}

impl Client {
    /// Connects to the socket. QEMU accepts as soon as it runs; the guest may
    /// still be booting, so call [`Client::wait_until_up`] first.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        Ok(Self::over(UnixStream::connect(path)?))
    }

    /// Speaks over a stream that is open already.
    pub fn over(stream: UnixStream) -> Self {
        // Calls of an earlier client may still be answered: start elsewhere.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let next_id = u64::try_from(now.as_micros()).unwrap_or_default();
        Self { stream, decoder: LineDecoder::new(), next_id }
    }

    /// Asks, and waits at most `patience` for the answer.
    pub fn call(&mut self, request: Request, patience: Duration) -> Result<Response, ClientError> {
        let deadline = Instant::now() + patience;
        let id = self.next_id;
        self.next_id += 1;
        let call = Call { id, request };
        self.stream.set_write_timeout(Some(patience))?;
        self.stream.write_all(&encode(&call)?)?;
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let silent = || ClientError::Silent { request: format!("{:?}", call.request), patience };
            if left.is_zero() {
                return Err(silent());
            }
            self.stream.set_read_timeout(Some(left))?;
            let length = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(length) => length,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(silent());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let mut chunk = &buffer[..length];
            // Garbage and late answers are passed over: ours is still to come.
            while let Some(answer) = self.decoder.next::<Answer>(&mut chunk) {
                match answer {
                    Ok(Answer { id: its, response: Response::Refused { reason } }) if its == id => {
                        return Err(ClientError::Refused(reason));
                    }
                    Ok(Answer { id: its, response }) if its == id => return Ok(response),
                    _ => {}
                }
            }
        }
    }

    /// Waits until the workload answers at all: the guest is up. It asks
    /// again and again, as a guest that restarts takes with it what it was
    /// asked last.
    pub fn wait_until_up(&mut self, patience: Duration) -> Result<(), ClientError> {
        let deadline = Instant::now() + patience;
        loop {
            match self.call(Request::Ping, ASK_PATIENCE.min(patience)) {
                Ok(Response::Pong) => return Ok(()),
                Ok(other) => return Err(unexpected("Ping", &other)),
                Err(ClientError::Silent { .. }) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Raises the goal, at `bytes_per_second` if given; returns the new goal.
    pub fn grow(
        &mut self,
        bytes: Bytes,
        bytes_per_second: Option<Bytes>,
        patience: Duration,
    ) -> Result<Bytes, ClientError> {
        accepted("Grow", &self.call(Request::Grow { bytes, bytes_per_second }, patience)?)
    }

    /// Lowers the goal; returns the new one.
    pub fn shrink(&mut self, bytes: Bytes, patience: Duration) -> Result<Bytes, ClientError> {
        accepted("Shrink", &self.call(Request::Shrink { bytes }, patience)?)
    }

    /// How it goes.
    pub fn status(&mut self, patience: Duration) -> Result<Status, ClientError> {
        match self.call(Request::Status, patience)? {
            Response::Status(status) => Ok(status),
            other => Err(unexpected("Status", &other)),
        }
    }

    /// Checks every page.
    pub fn verify(&mut self, patience: Duration) -> Result<Verified, ClientError> {
        match self.call(Request::Verify, patience)? {
            Response::Verified(verified) => Ok(verified),
            other => Err(unexpected("Verify", &other)),
        }
    }

    /// Grows as fast as possible; tells how long it took and when the host
    /// helped. `patience` must be longer than `wait` by what the allocation
    /// may take.
    pub fn spike(&mut self, bytes: Bytes, wait: Duration, patience: Duration) -> Result<Spiked, ClientError> {
        let wait_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        match self.call(Request::Spike { bytes, wait_ms }, patience)? {
            Response::Spiked(spiked) => Ok(spiked),
            other => Err(unexpected("Spike", &other)),
        }
    }

    /// Has memory groups tried.
    pub fn groups(&mut self, patience: Duration) -> Result<Grouped, ClientError> {
        match self.call(Request::Groups, patience)? {
            Response::Grouped(grouped) => Ok(grouped),
            other => Err(unexpected("Groups", &other)),
        }
    }

    /// Waits until what is held is the goal; returns the last status, settled
    /// or not.
    pub fn settle(&mut self, patience: Duration) -> Result<Status, ClientError> {
        let deadline = Instant::now() + patience;
        loop {
            match self.status(ASK_PATIENCE) {
                Ok(status) if status.is_settled() || Instant::now() >= deadline => return Ok(status),
                Err(ClientError::Silent { .. }) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
                Ok(_) => thread::sleep(ASK_EVERY),
            }
        }
    }
}

fn accepted(request: &str, response: &Response) -> Result<Bytes, ClientError> {
    match response {
        Response::Accepted { goal_bytes } => Ok(*goal_bytes),
        other => Err(unexpected(request, other)),
    }
}

fn unexpected(request: &str, response: &Response) -> ClientError {
    ClientError::Unexpected { request: request.to_owned(), response: format!("{response:?}") }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A guest that answers each call with what `script` makes of it.
    fn guest(script: impl Fn(Call) -> Vec<u8> + Send + 'static) -> Client {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        thread::spawn(move || {
            let (mut stream, mut decoder, mut buffer) = (theirs, LineDecoder::new(), [0; 4096]);
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                let mut chunk = &buffer[..length];
                while let Some(Ok(call)) = decoder.next(&mut chunk) {
                    let _ = stream.write_all(&script(call));
                }
            }
        });
        Client::over(ours)
    }

    fn line(id: u64, response: Response) -> Vec<u8> {
        encode(&Answer { id, response }).expect("it fits")
    }

    #[test]
    fn late_answers_and_garbage_are_passed_over() {
        let mut client = guest(|call| {
            let late = line(call.id.wrapping_sub(1), Response::Leaving);
            [late, b"\xff\xfe\n".to_vec(), line(call.id, Response::Pong)].concat()
        });
        client.wait_until_up(PATIENCE).expect("a pong among the noise");
    }

    #[test]
    fn a_guest_that_missed_the_first_question_is_asked_again() {
        let asked = AtomicUsize::new(0);
        let mut client = guest(move |call| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Vec::new(),
            _ => line(call.id, Response::Pong),
        });
        client.wait_until_up(PATIENCE).expect("the second question is answered");
    }

    #[test]
    fn a_refusal_is_an_error_with_its_reason() {
        let mut client = guest(|call| line(call.id, Response::Refused { reason: "No".to_owned() }));
        let error = client.verify(PATIENCE).expect_err("refused");
        assert_eq!(error.to_string(), "Workload refused: No");
    }

    #[test]
    fn silence_is_an_error_that_names_the_question() {
        let mut client = guest(|_| Vec::new());
        let error = client.status(Duration::from_millis(20)).expect_err("silent");
        assert_eq!(error.to_string(), "Workload has not answered Status within 20ms");
    }

    #[test]
    fn a_machine_that_goes_away_is_noticed() {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let mut client = Client::over(ours);
        theirs.shutdown(std::net::Shutdown::Write).expect("closable");
        assert!(matches!(client.wait_until_up(PATIENCE), Err(ClientError::Closed)));
    }
}
