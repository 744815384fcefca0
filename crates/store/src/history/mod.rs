//! The history: what VMs and the host were, second by second for an hour,
//! minute by minute for a week, hour by hour for a year.
//!
//! ```text
//!  samples ──▶ chunks of seconds ──▶ chunks of minutes ──▶ chunks of hours ──▶ gone
//!              (a minute each)  fold (an hour each)   fold (a week each)
//!                      └────────────────────┴── fold ─────────┴──▶ series
//! ```
//! A **chunk** is a row: the points of one subject in one stretch of time, as
//! bytes (`codec`). A sample is in one place at a time: when a subject
//! has more chunks of a tier than are kept, the oldest are folded into the next
//! tier in the same transaction. So what is kept is bounded by the number of
//! chunks and not by a clock, which may be set: a time that is told twice is
//! folded, and what lies in the future is a chunk like others. Whoever asks
//! gets all tiers folded to one step. A stretch without samples takes no room,
//! and is a gap.
//!
//! Rooms: `columns` (what is sampled), `codec` and `fold` (pure), `archive`
//! (SQLite).

mod archive;
mod codec;
mod columns;
mod fold;

pub use archive::{History, HistoryError, HistoryNotice};
pub use codec::{ChunkError, decode, encode};
pub use columns::{COLUMNS_MAX, Column, Kept, Point, Reading, Sample, Subject};
pub use fold::{Piece, Series, fold, series};
