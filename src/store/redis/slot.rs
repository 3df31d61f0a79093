//! Which slot of a Cluster a hash tag has.

/// CRC16 (XMODEM) of the tag, modulo 16384, as the Redis Cluster specification has it ("Key distribution model").
pub(super) fn slot_of(tag: &str) -> u16 {
    tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    }) % 16384
}

#[cfg(test)]
mod tests {
    #[test]
    fn slots_are_those_of_the_specification() {
        // The specification's own check value of CRC16, and two slots that `CLUSTER KEYSLOT` gives.
        assert_eq!(super::slot_of("123456789"), 0x31c3);
        assert_eq!(super::slot_of("foo"), 12182);
        assert_eq!(super::slot_of("bar"), 5061);
    }
}
