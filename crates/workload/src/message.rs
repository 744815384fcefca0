//! What the host asks and what the workload answers: one JSON object per line,
//! in the framing of `dynmem-agent-protocol`. Each [`Call`] gets one
//! [`Answer`] with its `id`, in order.

use dynmem_agent_protocol::{MAX_SIZE, Message, ProtocolError};
use dynmem_units::Bytes;
use serde::{Deserialize, Serialize};

/// How fast memory grows unless the host says otherwise, per second: a host
/// that looks ten times a second can follow.
pub const DEFAULT_GROWTH: Bytes = Bytes::from_mib(64);

/// A request, and the number that its answer will carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the host.
    pub id: u64,
    /// What to do.
    #[serde(flatten)]
    pub request: Request,
}

/// What the host may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Are you there?
    Ping,
    /// Raise the goal; memory follows at a bounded rate. Answered at once.
    Grow {
        /// How much more to hold.
        bytes: Bytes,
        /// [`DEFAULT_GROWTH`] if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes_per_second: Option<Bytes>,
    },
    /// Lower the goal; memory goes back to the guest's kernel. Answered at
    /// once.
    Shrink {
        /// How much less to hold.
        bytes: Bytes,
    },
    /// Stop growing: the goal becomes what is held.
    Hold,
    /// Check every page. Answered when all are checked.
    Verify,
    /// How it goes. Answered at once, even while the guest starves.
    Status,
    /// Grow as fast as the guest can touch pages, and watch when the first
    /// memory arrives from the host. Answered when both are known.
    Spike {
        /// How much more to hold.
        bytes: Bytes,
        /// How long to wait for memory from the host, at most 60000; 5000 if
        /// not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_ms: Option<u64>,
    },
    /// Restart the guest, as from inside.
    Reboot,
    /// Power the guest off, as from inside.
    Poweroff,
    /// Crash the guest's kernel.
    Crash,
    /// Do something to the guest's agent.
    Agent {
        /// What.
        fate: AgentFate,
    },
    /// Give the balloon's device to its driver, or take it away.
    Balloon {
        /// Whether the driver is to have it.
        bound: bool,
    },
    /// Make memory groups, and tell what this guest's kernel does with them.
    /// Answered when it is tried.
    Groups,
    /// Something that this version does not know; it is refused.
    #[serde(other)]
    Unknown,
}

/// What becomes of the guest's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentFate {
    /// It is killed; the guest starts another.
    Killed,
    /// It stands still.
    Stopped,
    /// It goes on.
    Continued,
}

/// A response, and the number of the call that it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The call's; 0 for a line that was no call.
    pub id: u64,
    /// What came of it.
    #[serde(flatten)]
    pub response: Response,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Ping`].
    Pong,
    /// To [`Request::Grow`], [`Request::Shrink`] and [`Request::Hold`]: on its
    /// way.
    Accepted {
        /// What is to be held.
        goal_bytes: Bytes,
    },
    /// To [`Request::Verify`].
    Verified(Verified),
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Spike`].
    Spiked(Spiked),
    /// To [`Request::Groups`].
    Grouped(Grouped),
    /// To [`Request::Reboot`], [`Request::Poweroff`] and [`Request::Crash`]:
    /// goodbye.
    Leaving,
    /// To [`Request::Agent`] and [`Request::Balloon`]: done, or begun.
    Begun,
    /// Not done.
    Refused {
        /// Why, for people.
        reason: String,
    },
}

/// The outcome of a check of every page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Pages checked.
    pub pages: u64,
    /// Pages whose content was not what it should be.
    pub broken: u64,
}

/// How the workload goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Memory held now, each page filled.
    pub held_bytes: Bytes,
    /// Memory to be held.
    pub goal_bytes: Bytes,
    /// Broken pages found since the guest's boot, each counted once.
    pub broken: u64,
    /// Pages checked since the guest's boot.
    pub verified_pages: u64,
    /// How often the guest's OOM killer took what was held.
    pub oom_kills: u64,
    /// What was lost that way.
    pub lost_bytes: Bytes,
    /// Time since the guest's boot.
    pub uptime_ms: u64,
    /// What the guest's kernel manages (`MemTotal`).
    pub visible_bytes: Bytes,
    /// What nothing uses (`MemFree`).
    pub free_bytes: Bytes,
    /// Size of the guest's swap.
    pub swap_total_bytes: Bytes,
    /// Part of it in use.
    pub swap_used_bytes: Bytes,
}

impl Status {
    /// True once what is held is what is to be held.
    pub fn is_settled(&self) -> bool {
        self.held_bytes == self.goal_bytes
    }
}

/// What became of a spike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spiked {
    /// From the start to the last page touched.
    pub allocate_ms: u64,
    /// From the start to the first memory that came from the host; `None` if
    /// none came in time.
    pub first_grant_ms: Option<u64>,
    /// What the guest's kernel managed at the start.
    pub visible_before_bytes: Bytes,
    /// What it managed at the end.
    pub visible_after_bytes: Bytes,
}

/// What a kernel with the unified hierarchy did with memory groups: one with
/// 64 MiB for a process that holds 32, and one with 16.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouped {
    /// The first one's limit, as the kernel tells it.
    pub hard_limit_bytes: Bytes,
    /// What it was counted to hold.
    pub held_bytes: Bytes,
    /// Whether 16 MiB were refused for it, too.
    pub is_shrinking_refused: bool,
    /// What it may swap, in the kernel's words; none if that is not counted.
    pub swap_limit: Option<String>,
    /// The signal that ended the process in the second one.
    pub killed_by_signal: Option<i32>,
    /// How often the second one ran out of memory.
    pub ooms: u64,
    /// How many of its processes were killed for it.
    pub oom_kills: u64,
    /// The most that it held; none if the kernel does not count that.
    pub peak_bytes: Option<Bytes>,
}

impl Message for Call {
    fn check(&self) -> Result<(), ProtocolError> {
        let (bytes, rate) = match &self.request {
            Request::Grow { bytes, bytes_per_second } => (*bytes, bytes_per_second.unwrap_or_default()),
            Request::Shrink { bytes } | Request::Spike { bytes, .. } => (*bytes, Bytes::ZERO),
            _ => return Ok(()),
        };
        for (field, size) in [("bytes", bytes), ("bytes_per_second", rate)] {
            if size > MAX_SIZE {
                return Err(ProtocolError::Absurd { field, size });
            }
        }
        Ok(())
    }
}

impl Message for Answer {
    fn check(&self) -> Result<(), ProtocolError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dynmem_agent_protocol::{LineDecoder, encode};

    use super::*;

    fn decode<M: Message>(line: &[u8]) -> Result<M, ProtocolError> {
        let mut chunk = line;
        LineDecoder::new().next(&mut chunk).expect("a complete line")
    }

    #[test]
    fn a_call_is_one_flat_object() {
        let call = Call { id: 7, request: Request::Grow { bytes: Bytes::MIB, bytes_per_second: None } };
        let line = encode(&call).expect("believable");
        assert_eq!(line, b"{\"id\":7,\"type\":\"grow\",\"bytes\":1048576}\n");
        assert_eq!(decode(&line), Ok(call));
    }

    #[test]
    fn every_answer_survives_the_wire() {
        for response in [
            Response::Pong,
            Response::Accepted { goal_bytes: Bytes::GIB },
            Response::Verified(Verified { pages: 5, broken: 1 }),
            Response::Status(Status { held_bytes: Bytes::MIB, ..Status::default() }),
            Response::Spiked(Spiked { first_grant_ms: Some(3), ..Spiked::default() }),
            Response::Grouped(Grouped { killed_by_signal: Some(9), ..Grouped::default() }),
            Response::Leaving,
            Response::Begun,
            Response::Refused { reason: "Because".to_owned() },
        ] {
            let answer = Answer { id: u64::MAX, response };
            assert_eq!(decode(&encode(&answer).expect("it fits")), Ok(answer));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_what_is_unknown_is_known_to_be() {
        assert_eq!(decode(b"{\"id\":1,\"type\":\"dance\"}\n"), Ok(Call { id: 1, request: Request::Unknown }));
        for line in
            [&b"{\"id\":1,\"type\":\"grow\",\"bytes\":-1}\n"[..], b"{\"id\":1,\"type\":\"shrink\",\"bytes\":1.5}\n"]
        {
            assert!(matches!(decode::<Call>(line), Err(ProtocolError::Malformed(_))));
        }
        let absurd = b"{\"id\":1,\"type\":\"spike\",\"bytes\":9007199254740993}\n";
        assert!(matches!(decode::<Call>(absurd), Err(ProtocolError::Absurd { field: "bytes", .. })));
    }
}
