//! [`Archive`]: an initramfs, in the one format that the kernel reads.
//!
//! Uncompressed: QEMU copies a few more megabytes, and the guest, which is
//! often emulated, has nothing to unpack.

use std::io::Write;

use anyhow::Context;
use cpio::newc::{Builder, ModeFileType, trailer};

/// An archive in memory. The same entries give the same bytes.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder, before what is in it. Paths have no leading slash.
    pub fn folder(&mut self, path: &str) -> anyhow::Result<()> {
        self.add(Builder::new(path).mode(0o755).set_mode_file_type(ModeFileType::Directory), &[])
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        self.add(Builder::new(path).mode(mode).set_mode_file_type(ModeFileType::Regular), content)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> anyhow::Result<()> {
        self.add(Builder::new(path).mode(0o777).set_mode_file_type(ModeFileType::Symlink), target.as_bytes())
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> anyhow::Result<()> {
        let device = Builder::new(path).mode(0o600).rdev_major(major).rdev_minor(minor);
        self.add(device.set_mode_file_type(ModeFileType::Char), &[])
    }

    /// The whole archive.
    pub fn finish(mut self) -> anyhow::Result<Vec<u8>> {
        trailer(&mut self.bytes).context("Cannot end the initramfs")?;
        Ok(self.bytes)
    }

    fn add(&mut self, entry: Builder, content: &[u8]) -> anyhow::Result<()> {
        let size = u32::try_from(content.len()).context("A file is too large for an initramfs")?;
        self.entries += 1;
        let mut writer = entry.ino(self.entries).nlink(1).write(&mut self.bytes, size);
        writer.write_all(content).and_then(|()| writer.finish().map(drop)).context("Cannot add to the initramfs")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use cpio::newc::Reader;

    use super::*;

    #[test]
    fn entries_come_back_in_order_with_their_kinds_and_contents() {
        let mut archive = Archive::new();
        archive.folder("bin").expect("added");
        archive.file("bin/tool", 0o755, b"hello").expect("added");
        archive.link("init", "bin/tool").expect("added");
        archive.device("console", 5, 1).expect("added");
        let bytes = archive.finish().expect("ended");

        let mut rest: &[u8] = &bytes;
        let mut seen = Vec::new();
        loop {
            let mut reader = Reader::new(rest).expect("a header");
            if reader.entry().is_trailer() {
                break;
            }
            let mut content = String::new();
            reader.read_to_string(&mut content).expect("its content");
            let entry = reader.entry();
            seen.push((entry.name().to_owned(), entry.mode(), entry.rdev_major(), content));
            rest = reader.finish().expect("the next header");
        }
        let expected = [
            ("bin", 0o040_755, 0, ""),
            ("bin/tool", 0o100_755, 0, "hello"),
            ("init", 0o120_777, 0, "bin/tool"),
            ("console", 0o020_600, 5, ""),
        ];
        assert_eq!(
            seen,
            expected.map(|(name, mode, major, content)| (name.to_owned(), mode, major, content.to_owned()))
        );
    }
}
