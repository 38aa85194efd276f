//! Which addresses are on the public internet.
//!
//! Written as what is let through, where that is possible: IPv6 is judged by its one global unicast block minus the
//! special ones in it, so that a form nobody thought of is refused. IPv4 has no such block; its list is the IANA
//! special-purpose registry, "globally reachable" entries of 192.0.0.0/24 and 192.88.99.0/24 included, because nothing
//! a guest wants to fetch lives there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// RFC 6890 and its updates.
const SPECIAL_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),        // this network; 0.0.0.0 reaches loopback on Linux
    v4(10, 0, 0, 0, 8),       // private
    v4(100, 64, 0, 0, 10),    // carrier-grade NAT; cloud metadata of Alibaba is 100.100.100.200
    v4(127, 0, 0, 0, 8),      // loopback
    v4(169, 254, 0, 0, 16),   // link-local; cloud metadata is 169.254.169.254
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // protocol assignments; cloud metadata of Oracle is 192.0.0.192
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // 6to4 relays
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarks
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved, and broadcast
    v4(168, 63, 129, 16, 32), // Azure's host agent: a public number that is only ever the machine below
];

/// Global unicast. Loopback, unspecified, mapped and compatible IPv4, unique and site-local, link-local, multicast, the
/// discard prefix and both NAT64 prefixes are outside it.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// Special blocks inside [`GLOBAL_V6`].
const SPECIAL_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 0, 23),     // protocol assignments: Teredo 2001::/32, benchmarks, ORCHID
    v6(0x2001, 0xdb8, 0, 32), // documentation
    v6(0x2002, 0, 0, 16),     // 6to4: an IPv4 address in disguise
    v6(0x3fff, 0, 0, 20),     // documentation
];

/// The prefix that a DNS64 resolver answers with (RFC 6052).
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

/// Whether a resolved address may be connected to without the development setting.
///
/// A NAT64 address is judged by the IPv4 address in it: it is what a DNS64 resolver honestly answers in a network
/// without IPv4, and the translator connects to nothing but that address. All other forms that carry an IPv4 address
/// are refused whatever they carry.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) if NAT64.contains(&address) => is_public_v4(embedded(address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|net| net.contains(&address))
        }
    }
}

/// As [`is_public`], for an address written in a URL: no guest has a reason to write a NAT64 form, so it is refused.
pub(crate) fn is_public_literal(address: IpAddr) -> bool {
    match address {
        IpAddr::V6(v6) if NAT64.contains(&v6) => false,
        _ => is_public(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|net| net.contains(&address))
}

/// The last four bytes.
fn embedded(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2a00:1450:4001::1",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn every_special_block_is_refused_at_both_ends() {
        for text in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.0",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "169.254.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.0",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.0",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.255",
            "168.63.129.16",
            "100.100.100.200",
            "::",
            "::1",
            "::7f00:1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "64:ff9b:1:ffff::",
            "100::1",
            "2001::1",
            "2001:0:53aa:64c::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fdff:ffff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff00::1",
            "ff02::1",
            "ffff::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_translated_form_that_a_guest_writes_is_refused_whatever_it_carries() {
        assert!(!is_public_literal("64:ff9b::808:808".parse().unwrap()));
        assert!(is_public_literal("2606:4700:4700::1111".parse().unwrap()));
    }
}
