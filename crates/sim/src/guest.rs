//! A guest: a kernel that lives in the memory it is lent.
