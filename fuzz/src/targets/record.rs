//! A machine's record, as an earlier daemon, or somebody with an editor, left
//! it.

use dynmem_hypervisor::MachineRecord;

use crate::assert_readable;

pub(super) fn run(data: &[u8]) {
    match MachineRecord::from_json(data) {
        Ok(record) => {
            let again = MachineRecord::from_json(&record.to_json()).expect("what we wrote");
            assert_eq!(again, record);
        }
        Err(error) => assert_readable(&error),
    }
}
