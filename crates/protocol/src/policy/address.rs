//! Addresses by which a machine talks to itself about itself: no name and no wide network leads there,
//! only a rule that names the very address, and for some not even that.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Where clouds tell a machine who it is, credentials included: AWS over IPv6, Alibaba, Azure, Oracle,
/// Google over IPv6. The best known one, 169.254.169.254, is link-local anyway.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254)),
];

/// Why an address is not dialled like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// 169.254.0.0/16 or fe80::/10.
    LinkLocal,
    /// Where a cloud tells a machine who it is.
    Metadata,
    /// 0.0.0.0/8 or ::, this host.
    Unspecified,
    /// A group of hosts.
    Multicast,
    /// Every host.
    Broadcast,
}

impl Special {
    /// May a rule that names the address make it reachable?
    pub fn can_be_named(self) -> bool {
        match self {
            Self::LinkLocal | Self::Metadata => true,
            Self::Unspecified | Self::Multicast | Self::Broadcast => false,
        }
    }
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud's metadata address",
            Self::Unspecified => "the unspecified address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
        })
    }
}

/// What is special about an address; `None` for ordinary ones, private and loopback among them.
pub fn special(address: IpAddr) -> Option<Special> {
    let address = plain(address);
    if METADATA.contains(&address) {
        return Some(Special::Metadata);
    }
    if address.is_multicast() {
        return Some(Special::Multicast);
    }
    match address {
        // The whole of 0.0.0.0/8 means "this host" (RFC 1122 §3.2.1.3).
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some(Special::Unspecified),
        IpAddr::V4(v4) if v4.is_link_local() => Some(Special::LinkLocal),
        IpAddr::V4(v4) if v4.is_broadcast() => Some(Special::Broadcast),
        IpAddr::V6(v6) if v6.is_unspecified() => Some(Special::Unspecified),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(Special::LinkLocal),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// The IPv4 address inside an IPv6 one that stands for it: mapped and compatible (RFC 4291 §2.5.5),
/// translated (RFC 2765 §2.1), NAT64 (RFC 6052 §2.1, and RFC 8215 with the address at the end), 6to4
/// (RFC 3056 §2). Any other address as it is.
pub fn plain(address: IpAddr) -> IpAddr {
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
    fn special_addresses_are_known_in_every_form() {
        for (text, why) in [
            ("169.254.169.254", Special::LinkLocal),
            ("169.254.0.1", Special::LinkLocal),
            ("::ffff:169.254.169.254", Special::LinkLocal),
            ("::169.254.169.254", Special::LinkLocal),
            ("64:ff9b::169.254.169.254", Special::LinkLocal),
            ("64:ff9b:1::169.254.169.254", Special::LinkLocal),
            ("::ffff:0:169.254.169.254", Special::LinkLocal),
            ("2002:a9fe:a9fe::1", Special::LinkLocal),
            ("fe80::1", Special::LinkLocal),
            ("febf::1", Special::LinkLocal),
            ("fd00:ec2::254", Special::Metadata),
            ("fd20:ce::254", Special::Metadata),
            ("100.100.100.200", Special::Metadata),
            ("::ffff:100.100.100.200", Special::Metadata),
            ("168.63.129.16", Special::Metadata),
            ("192.0.0.192", Special::Metadata),
            ("0.0.0.0", Special::Unspecified),
            ("0.1.2.3", Special::Unspecified),
            ("::", Special::Unspecified),
            ("::ffff:0.0.0.0", Special::Unspecified),
            ("224.0.0.1", Special::Multicast),
            ("239.255.255.255", Special::Multicast),
            ("ff02::1", Special::Multicast),
            ("255.255.255.255", Special::Broadcast),
        ] {
            assert_eq!(special(text.parse().unwrap()), Some(why), "{text}");
        }
    }

    #[test]
    fn private_networks_and_the_host_itself_are_ordinary() {
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
            assert_eq!(special(text.parse().unwrap()), None, "{text}");
        }
    }
}
