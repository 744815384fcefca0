//! What is sampled, and what is kept of many samples: [`Column`], [`Sample`],
//! [`Point`].

/// Columns that a subject has at most.
pub const COLUMNS_MAX: usize = 9;
/// Sizes are kept in steps of this, rounded to the nearest: a chart shows no
/// less, and a delta takes a byte instead of four.
const QUANTUM_BYTES: u64 = 64 << 10;

/// Whose history it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The host's.
    Host,
    /// That of the VM of this name.
    Vm(String),
}

impl Subject {
    /// What is kept of it. A place in this list is what [`Sample`] and
    /// [`Point`] have their values by.
    pub fn columns(&self) -> &'static [Column] {
        match self {
            Self::Host => &HOST,
            Self::Vm(_) => &VM,
        }
    }

    /// As the database names it.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Host => "",
            Self::Vm(name) => name,
        }
    }
}

/// One thing that is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name; ends in its unit.
    pub name: &'static str,
    /// What becomes of many samples.
    pub kept: Kept,
}

/// What is kept of several values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Their average.
    Average,
    /// Their average, the smallest and the largest.
    Spread,
    /// The largest.
    Largest,
    /// The last.
    Last,
}

impl Column {
    const fn new(name: &'static str, kept: Kept) -> Self {
        Self { name, kept }
    }

    fn is_size(&self) -> bool {
        self.name.ends_with("_bytes")
    }

    fn packed(&self, value: u64) -> u32 {
        let quantum = if self.is_size() { QUANTUM_BYTES } else { 1 };
        // One below the largest, so that a value and its absence fit together.
        u32::try_from(value.saturating_add(quantum / 2) / quantum).unwrap_or(u32::MAX).min(u32::MAX - 1)
    }

    /// A value as it was, but for its rounding.
    pub fn unpacked(&self, value: u32) -> u64 {
        u64::from(value) * if self.is_size() { QUANTUM_BYTES } else { 1 }
    }
}

/// Of a VM that is on. `status` and `state` are numbers that the daemon gives
/// a meaning; a larger status is a worse one.
const VM: [Column; 9] = [
    Column::new("assigned_bytes", Kept::Spread),
    Column::new("demand_bytes", Kept::Spread),
    Column::new("target_bytes", Kept::Average),
    Column::new("guest_visible_bytes", Kept::Average),
    Column::new("ballooned_bytes", Kept::Average),
    Column::new("pressure_percent", Kept::Spread),
    Column::new("stall_percent", Kept::Spread),
    Column::new("status", Kept::Largest),
    Column::new("state", Kept::Last),
];

const HOST: [Column; 5] = [
    Column::new("available_bytes", Kept::Spread),
    Column::new("charged_bytes", Kept::Average),
    Column::new("assigned_bytes", Kept::Average),
    Column::new("host_available_bytes", Kept::Spread),
    Column::new("stall_percent", Kept::Spread),
];

/// What a subject was at one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Seconds since 1970.
    pub at_unix_s: u64,
    values: [Option<u32>; COLUMNS_MAX],
}

impl Sample {
    /// A sample of the subject with these columns; `None` where nothing is
    /// known. Values beyond the columns are left out.
    pub fn new(columns: &[Column], at_unix_s: u64, values: &[Option<u64>]) -> Self {
        let mut packed = [None; COLUMNS_MAX];
        for ((slot, column), value) in packed.iter_mut().zip(columns).zip(values) {
            *slot = value.map(|value| column.packed(value));
        }
        Self { at_unix_s, values: packed }
    }
}

/// One value, or what was kept of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The average; where a column keeps one value only, that.
    pub average: u32,
    /// The smallest; at most `average`.
    pub minimum: u32,
    /// The largest; at least `average`.
    pub maximum: u32,
}

impl Reading {
    /// A single value.
    pub const fn of(value: u32) -> Self {
        Self { average: value, minimum: value, maximum: value }
    }
}

/// What a subject was in a stretch of time. Values are packed:
/// [`Column::unpacked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When the stretch begins, in seconds since 1970.
    pub at_unix_s: u64,
    /// How many samples it has, at least one: few of a stretch in which the
    /// subject was off for a while, or nobody looked.
    pub samples: u32,
    /// What was kept of each column; `None` where no sample had it.
    pub values: [Option<Reading>; COLUMNS_MAX],
}

impl From<&Sample> for Point {
    fn from(sample: &Sample) -> Self {
        Self { at_unix_s: sample.at_unix_s, samples: 1, values: sample.values.map(|value| value.map(Reading::of)) }
    }
}
