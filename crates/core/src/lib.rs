//! The pure engine.
mod facts;
mod settings;
pub use facts::{DeviceFacts, GuestReport, HostFacts, Instant, ReportSource};
pub use settings::{BUFFER_RANGE, DemandModel, MAXIMUM_CEILING, MINIMUM_FLOOR, MemorySettings, SettingsError};
