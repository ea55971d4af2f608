//! Captured frames in a file that Wireshark and tcpdump read.

use std::{collections::HashMap, io::Write, time::Duration};

use anyhow::Result;
use lb_common::capture::{Head, SNAP};
use pcap_file::{
    DataLink,
    pcapng::{
        PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
        },
    },
};

use super::line::reason;

/// A pcapng file: two interfaces for each of the director's, one with the packets as
/// they came and one (its name ends in `-lvx`) with those that lvx sent on. Each
/// packet's comment says why it ended as it did and, so that the two belong together,
/// its number.
pub struct File<W: Write> {
    writer: PcapNgWriter<W>,
    /// By index and side.
    interfaces: HashMap<(u32, bool), u32>,
}

impl<W: Write> File<W> {
    /// Starts a file.
    ///
    /// # Errors
    /// When `to` cannot be written.
    pub fn new(to: W) -> Result<Self> {
        Ok(Self {
            writer: PcapNgWriter::new(to)?,
            interfaces: HashMap::new(),
        })
    }

    /// Writes a frame; `since_epoch` is its time in nanoseconds.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(
        &mut self,
        head: &Head,
        bytes: &[u8],
        since_epoch: u64,
        name: impl Fn(u32) -> String,
    ) -> Result<()> {
        let is_after = head.after != 0;
        let index = if is_after && head.egress != 0 {
            head.egress
        } else {
            head.ingress
        };
        let interface_id = match self.interfaces.get(&(index, is_after)) {
            Some(id) => *id,
            None => self.describe(index, is_after, &name(index))?,
        };
        let comment = format!("{} #{:x}", reason(head.reason), head.number);
        self.writer.write_pcapng_block(EnhancedPacketBlock {
            interface_id,
            timestamp: Duration::from_nanos(since_epoch),
            original_len: head.length,
            data: bytes.into(),
            options: vec![EnhancedPacketOption::Comment(comment.into())],
        })?;
        Ok(())
    }

    fn describe(&mut self, index: u32, is_after: bool, name: &str) -> Result<u32> {
        let (name, about) = if is_after {
            (format!("{name}-lvx"), "as lvx left them")
        } else {
            (name.to_owned(), "as they came")
        };
        self.writer.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: SNAP,
            options: vec![
                InterfaceDescriptionOption::IfName(name.into()),
                InterfaceDescriptionOption::IfDescription(about.into()),
                // Nanoseconds.
                InterfaceDescriptionOption::IfTsResol(9),
            ],
        })?;
        let id = self.interfaces.len() as u32;
        self.interfaces.insert((index, is_after), id);
        Ok(id)
    }

    /// What is written to.
    pub fn inner(&mut self) -> &mut W {
        self.writer.get_mut()
    }
}

#[cfg(test)]
mod tests {
    use lb_common::reason::Reason;
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;

    #[test]
    fn two_interfaces_a_reason_and_a_time() {
        let mut bytes = Vec::new();
        let mut file = File::new(&mut bytes).unwrap();
        let head = Head {
            number: 0xab,
            ingress: 3,
            reason: Reason::ForwardedTx as u32,
            length: 1500,
            ..Head::default()
        };
        let time = 1_764_000_000_123_456_789;
        file.write(&head, &[1; 64], time, |_| "eth0".into())
            .unwrap();
        let after = Head { after: 1, ..head };
        file.write(&after, &[2; 60], time, |_| "eth0".into())
            .unwrap();
        file.write(&head, &[3; 64], time, |_| "eth0".into())
            .unwrap();

        let mut reader = PcapNgReader::new(bytes.as_slice()).unwrap();
        let mut seen = Vec::new();
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(it) => seen.push(format!("{:?}", it.options[0])),
                Block::EnhancedPacket(packet) => {
                    assert_eq!(packet.timestamp, Duration::from_nanos(time));
                    assert_eq!(packet.original_len, 1500);
                    let [EnhancedPacketOption::Comment(comment)] = &packet.options[..] else {
                        panic!("{:?}", packet.options);
                    };
                    seen.push(format!(
                        "{} {} {comment}",
                        packet.interface_id, packet.data[0]
                    ));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            seen,
            [
                "IfName(\"eth0\")",
                "0 1 forwarded-tx #ab",
                "IfName(\"eth0-lvx\")",
                "1 2 forwarded-tx #ab",
                "0 3 forwarded-tx #ab",
            ]
        );
    }
}
