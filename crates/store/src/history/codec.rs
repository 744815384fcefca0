//! Points ⇄ bytes: a chunk, column by column.
//!
//! ```text
//!  checksum (4) │ version (1) │ points │ places │ samples │ column │ column │ …
//!                               number   of each, in its own list of numbers
//! ```
//! Numbers are varints. In a list, a zero is followed by how many more follow
//! it; so what does not change costs two bytes, however long. Values are
//! differences to the value before (0 is "none", *n* + 1 is *n*); where the
//! smallest and largest are kept they are distances from the average. A minute
//! of a busy VM takes some thirty bytes.
//!
//! What comes back is checked as if somebody else had written it: a chunk that
//! was not read whole is an error, and a gap in the history.

use super::columns::{COLUMNS_MAX, Column, Kept, Point, Reading};

const VERSION: u8 = 1;

/// Why bytes are no chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// They were changed, or are not all there.
    #[error("its checksum is wrong")]
    Checksum,
    /// A later version wrote it.
    #[error("it has format {0}, and this program knows format {VERSION}")]
    Version(u8),
    /// It ends in the middle.
    #[error("it ends early")]
    Short,
    /// A number that can't be.
    #[error("its {0} can't be")]
    Impossible(&'static str),
}

/// Points of one chunk that begins at `start_unix_s` and has a place for a
/// point every `period_seconds`. They are in the order of time, one for each
/// place at most, none before the start.
pub fn encode(points: &[Point], columns: &[Column], start_unix_s: u64, period_seconds: u64) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, VERSION];
    put(&mut bytes, points.len() as u64);
    let place = |point: &Point| point.at_unix_s.saturating_sub(start_unix_s) / period_seconds;
    let mut next = 0;
    put_list(
        &mut bytes,
        points.iter().map(|point| {
            let skipped = place(point).saturating_sub(next);
            next = place(point) + 1;
            skipped
        }),
    );
    put_list(&mut bytes, differences(points.iter().map(|point| u64::from(point.samples))));
    for (index, column) in columns.iter().enumerate() {
        let readings = || points.iter().map(move |point| point.values[index]);
        let averages = readings().map(|reading| reading.map_or(0, |reading| u64::from(reading.average) + 1));
        put_list(&mut bytes, differences(averages));
        if column.kept == Kept::Spread {
            put_list(
                &mut bytes,
                readings().flatten().map(|reading| u64::from(reading.average.saturating_sub(reading.minimum))),
            );
            put_list(
                &mut bytes,
                readings().flatten().map(|reading| u64::from(reading.maximum.saturating_sub(reading.average))),
            );
        }
    }
    let sum = checksum(&bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// What [`encode`] was given. At most `places` points: the chunk's length.
pub fn decode(
    bytes: &[u8],
    columns: &[Column],
    start_unix_s: u64,
    period_seconds: u64,
    places: u64,
) -> Result<Vec<Point>, ChunkError> {
    let (sum, rest) = bytes.split_first_chunk::<4>().ok_or(ChunkError::Short)?;
    if u32::from_le_bytes(*sum) != checksum(rest) {
        return Err(ChunkError::Checksum);
    }
    let (version, rest) = rest.split_first().ok_or(ChunkError::Short)?;
    if *version != VERSION {
        return Err(ChunkError::Version(*version));
    }
    let mut rest = rest;
    let count = take(&mut rest)?;
    if count > places {
        return Err(ChunkError::Impossible("number of points"));
    }
    let count = usize::try_from(count).map_err(|_| ChunkError::Impossible("number of points"))?;
    let mut points = Vec::with_capacity(count);
    let mut next = 0_u64;
    for skipped in take_list(&mut rest, count)? {
        let place = next.checked_add(skipped).filter(|place| *place < places);
        let place = place.ok_or(ChunkError::Impossible("place"))?;
        let at_unix_s = start_unix_s.saturating_add(place * period_seconds);
        points.push(Point { at_unix_s, samples: 0, values: [None; COLUMNS_MAX] });
        next = place + 1;
    }
    for (point, samples) in points.iter_mut().zip(take_sums(&mut rest, count)?) {
        point.samples = small(samples).filter(|samples| *samples > 0).ok_or(ChunkError::Impossible("samples"))?;
    }
    for (index, column) in columns.iter().enumerate().take(COLUMNS_MAX) {
        take_column(&mut rest, *column, index, &mut points)?;
    }
    if rest.is_empty() { Ok(points) } else { Err(ChunkError::Impossible("end")) }
}

fn take_column(rest: &mut &[u8], column: Column, index: usize, points: &mut [Point]) -> Result<(), ChunkError> {
    const VALUE: ChunkError = ChunkError::Impossible("value");
    let averages = take_sums(rest, points.len())?;
    for (point, value) in points.iter_mut().zip(averages) {
        point.values[index] = match value.checked_sub(1) {
            Some(average) => Some(Reading::of(small(average).filter(|value| *value < u32::MAX).ok_or(VALUE)?)),
            None => None,
        };
    }
    if column.kept != Kept::Spread {
        return Ok(());
    }
    let known = points.iter().filter(|point| point.values[index].is_some()).count();
    let (below, above) = (take_list(rest, known)?, take_list(rest, known)?);
    let readings = points.iter_mut().filter_map(|point| point.values[index].as_mut());
    for ((reading, below), above) in readings.zip(below).zip(above) {
        reading.minimum = small(below).and_then(|below| reading.average.checked_sub(below)).ok_or(VALUE)?;
        reading.maximum = small(above).and_then(|above| reading.average.checked_add(above)).ok_or(VALUE)?;
    }
    Ok(())
}

fn small(value: u64) -> Option<u32> {
    u32::try_from(value).ok()
}

/// FNV-1a: it tells a flipped bit, and is no defence.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Differences to the value before, so that small steps either way are small
/// numbers: 0, −1, 1, −2 … as 0, 1, 2, 3 …
fn differences(values: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    let mut before = 0_u64;
    values.map(move |value| {
        let step = value.wrapping_sub(before).cast_signed();
        before = value;
        (step << 1 ^ step >> 63).cast_unsigned()
    })
}

fn take_sums(rest: &mut &[u8], count: usize) -> Result<Vec<u64>, ChunkError> {
    let mut values = take_list(rest, count)?;
    let mut before = 0_u64;
    for value in &mut values {
        let step = (*value >> 1).cast_signed() ^ -(*value & 1).cast_signed();
        before = before.wrapping_add(step.cast_unsigned());
        *value = before;
    }
    Ok(values)
}

fn put_list(bytes: &mut Vec<u8>, values: impl Iterator<Item = u64>) {
    let mut values = values.peekable();
    while let Some(value) = values.next() {
        put(bytes, value);
        if value == 0 {
            let mut more = 0;
            while values.next_if_eq(&0).is_some() {
                more += 1;
            }
            put(bytes, more);
        }
    }
}

fn take_list(rest: &mut &[u8], count: usize) -> Result<Vec<u64>, ChunkError> {
    let mut values = Vec::with_capacity(count);
    while values.len() < count {
        let value = take(rest)?;
        values.push(value);
        if value == 0 {
            let more = usize::try_from(take(rest)?).ok().filter(|more| *more <= count - values.len());
            let more = more.ok_or(ChunkError::Impossible("run"))?;
            values.resize(values.len() + more, 0);
        }
    }
    Ok(values)
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

fn take(rest: &mut &[u8]) -> Result<u64, ChunkError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(ChunkError::Short)?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(ChunkError::Impossible("number"));
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ChunkError::Impossible("number"))
}
