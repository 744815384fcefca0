//! The units every other crate speaks in: [`Bytes`], [`Percent`] and [`Weight`].
//!
//! They are newtypes so that a size can't be added to a percentage, and they
//! withhold `+` and `-` on purpose: memory arithmetic that overflows or goes
//! below zero is a bug here, so each caller chooses `checked_*` or
//! `saturating_*` and thereby says what should happen.
//!
//! ```
//! use dynmem_units::{Bytes, Percent};
//!
//! let demand: Bytes = "1000MB".parse()?;
//! let buffer = Percent::new(20);
//! assert_eq!(demand.saturating_add(buffer.of(demand)), "1200MB".parse()?);
//! # Ok::<(), dynmem_units::ParseBytesError>(())
//! ```

mod bytes;
mod ratio;
#[cfg(feature = "schema")]
mod schema;

pub use bytes::{Bytes, ParseBytesError};
pub use ratio::{Percent, Weight, WeightError};
#[cfg(feature = "schema")]
pub use schema::SizeText;
