"""How many places one address may hold."""

from ipaddress import ip_network

from foundation.address_bounds import AddressBounds


def test_one_address_has_its_places_and_no_more_and_gives_them_back() -> None:
    bounds = AddressBounds(2)
    assert [bounds.enter("192.0.2.7") for _ in range(3)] == [True, True, False]
    assert bounds.enter("192.0.2.8")
    assert (bounds.addresses, bounds.refused) == (2, 1)
    bounds.leave("192.0.2.7")
    assert bounds.enter("192.0.2.7")
    for address in ("192.0.2.7", "192.0.2.7", "192.0.2.8"):
        bounds.leave(address)
    assert bounds.addresses == 0


def test_an_ipv6_host_has_one_prefix_and_ipv4_in_ipv6_is_ipv4() -> None:
    bounds = AddressBounds(1)
    assert bounds.enter("2001:db8:0:1::7")
    assert not bounds.enter("2001:db8:0:1:ffff::8")
    assert bounds.enter("2001:db8:0:2::7")
    assert bounds.enter("::ffff:192.0.2.7")
    assert not bounds.enter("192.0.2.7")
    assert bounds.enter("fe80::1%eth0")
    assert not bounds.enter("fe80::2%eth0")


def test_this_machine_and_trusted_proxies_are_not_bounded() -> None:
    bounds = AddressBounds(1, [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])
    for address in ("127.0.0.1", "::1", "10.1.2.3", "2001:db8::1", "::ffff:10.0.0.1"):
        assert bounds.enter(address), address
        assert bounds.enter(address), address
        bounds.leave(address)
    assert bounds.enter("unknown")
    assert not bounds.enter("unknown")
    assert bounds.addresses == 1
