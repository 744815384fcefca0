//! Each shape, as a sentence.
