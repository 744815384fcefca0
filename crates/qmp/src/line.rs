//! [`Lines`]: lines out of chunks, bounded.

use crate::MAX_LINE_BYTES;

/// Collects chunks, cut anywhere, and gives back whole lines. It holds at most
/// [`MAX_LINE_BYTES`]; a longer line is thrown away up to its end, and counted.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    skipping: bool,
    dropped: u64,
}

impl Lines {
    /// Takes a chunk and calls `each` with every line that it completes,
    /// without its end.
    pub fn feed(&mut self, mut chunk: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            self.append(&chunk[..end]);
            if !self.skipping && !self.line.trim_ascii().is_empty() {
                each(&self.line);
            }
            self.line.clear();
            self.skipping = false;
            chunk = &chunk[end + 1..];
        }
        self.append(chunk);
    }

    /// How many lines were too long so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn append(&mut self, piece: &[u8]) {
        if self.skipping {
            return;
        }
        if self.line.len() + piece.len() > MAX_LINE_BYTES {
            self.skipping = true;
            self.dropped += 1;
            self.line = Vec::new(); // gives the memory back too
            return;
        }
        self.line.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> (Vec<String>, u64) {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.feed(chunk, |line| seen.push(String::from_utf8_lossy(line).into_owned()));
        }
        (seen, lines.dropped())
    }

    #[test]
    fn lines_come_out_whole_wherever_the_chunks_are_cut() {
        let text = b"{\"a\":1}\r\n\n{\"b\":2}\n{\"c\"";
        for cut in 0..text.len() {
            let (seen, dropped) = lines(&[&text[..cut], &text[cut..]]);
            assert_eq!(seen, ["{\"a\":1}\r", "{\"b\":2}"], "cut at {cut}");
            assert_eq!(dropped, 0);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_dropped_and_the_next_is_read() {
        let long = vec![b'x'; MAX_LINE_BYTES];
        let (seen, dropped) = lines(&[b"one\n", &long, b"x", &long, b"\ntwo\n"]);
        assert_eq!((seen, dropped), (vec!["one".to_owned(), "two".to_owned()], 1));
        let (seen, dropped) = lines(&[&long, b"\n"]);
        assert_eq!((seen.len(), dropped), (1, 0), "the longest line is still a line");
    }
}
