//! Each behaviour of a guest, as a sentence.
