//! Where the connector never goes, whoever asks: to the addresses by which a machine talks to itself
//! about itself. Judged on the address that is about to be dialled, never on text, for one address has
//! many spellings.
//!
//! Loopback and private addresses are allowed: reaching them is what a connector is for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where clouds tell a machine who it is, credentials included: AWS over IPv6, Alibaba, Azure, Oracle,
/// Google over IPv6. The best known one, 169.254.169.254, is link-local anyway.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254)),
];

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forbidden {
    LinkLocal,
    Metadata,
    Unspecified,
    Multicast,
    Broadcast,
}

impl Forbidden {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud's metadata address",
            Self::Unspecified => "the unspecified address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
        }
    }
}

/// May this address be dialled?
///
/// # Errors
/// Why not.
pub(crate) fn vet(address: IpAddr) -> Result<(), Forbidden> {
    let address = plain(address);
    if METADATA.contains(&address) {
        return Err(Forbidden::Metadata);
    }
    if address.is_multicast() {
        return Err(Forbidden::Multicast);
    }
    match address {
        // The whole of 0.0.0.0/8 means "this host" (RFC 1122 §3.2.1.3).
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Err(Forbidden::Unspecified),
        IpAddr::V4(v4) if v4.is_link_local() => Err(Forbidden::LinkLocal),
        IpAddr::V4(v4) if v4.is_broadcast() => Err(Forbidden::Broadcast),
        IpAddr::V6(v6) if v6.is_unspecified() => Err(Forbidden::Unspecified),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(Forbidden::LinkLocal),
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
    }
}

/// The IPv4 address inside an IPv6 one that stands for it: mapped and compatible (RFC 4291 §2.5.5),
/// translated (RFC 2765 §2.1), NAT64 (RFC 6052 §2.1, and RFC 8215 with the address at the end), 6to4
/// (RFC 3056 §2).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let v4 = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0, 0, 0, 0, 0xffff, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => v4(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forbidden_addresses_are_refused_in_every_form() {
        for (text, why) in [
            ("169.254.169.254", Forbidden::LinkLocal),
            ("169.254.0.1", Forbidden::LinkLocal),
            ("::ffff:169.254.169.254", Forbidden::LinkLocal),
            ("::169.254.169.254", Forbidden::LinkLocal),
            ("64:ff9b::169.254.169.254", Forbidden::LinkLocal),
            ("64:ff9b:1::169.254.169.254", Forbidden::LinkLocal),
            ("::ffff:0:169.254.169.254", Forbidden::LinkLocal),
            ("2002:a9fe:a9fe::1", Forbidden::LinkLocal),
            ("fe80::1", Forbidden::LinkLocal),
            ("febf::1", Forbidden::LinkLocal),
            ("fd00:ec2::254", Forbidden::Metadata),
            ("fd20:ce::254", Forbidden::Metadata),
            ("100.100.100.200", Forbidden::Metadata),
            ("::ffff:100.100.100.200", Forbidden::Metadata),
            ("168.63.129.16", Forbidden::Metadata),
            ("192.0.0.192", Forbidden::Metadata),
            ("0.0.0.0", Forbidden::Unspecified),
            ("0.1.2.3", Forbidden::Unspecified),
            ("::", Forbidden::Unspecified),
            ("::ffff:0.0.0.0", Forbidden::Unspecified),
            ("224.0.0.1", Forbidden::Multicast),
            ("239.255.255.255", Forbidden::Multicast),
            ("ff02::1", Forbidden::Multicast),
            ("::ffff:224.0.0.1", Forbidden::Multicast),
            ("255.255.255.255", Forbidden::Broadcast),
        ] {
            assert_eq!(vet(text.parse().unwrap()), Err(why), "{text}");
        }
    }

    #[test]
    fn private_networks_and_the_host_itself_are_what_a_connector_is_for() {
        for text in [
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "fd00::1",
            "fc00::1",
            "::ffff:10.0.0.1",
            "8.8.8.8",
            "2001:db8::1",
            "169.253.255.255",
            "169.255.0.0",
            "100.100.100.199",
        ] {
            assert_eq!(vet(text.parse().unwrap()), Ok(()), "{text}");
        }
    }
}
