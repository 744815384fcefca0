//! What people type and read, without a daemon: help, slips of the finger, an
//! unreachable daemon. After a wanted change of words:
//! `TRYCMD=overwrite cargo test -p dynmem-cli --test transcripts`, and read
//! the difference.

#[test]
fn transcripts_without_a_daemon() {
    trycmd::TestCases::new().env("DYNMEM_SOCKET", "/nowhere/dynmem.sock").case("tests/transcripts/*.trycmd");
}
