"""Networks and the addresses in them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from libs.common.rows.subnets import Networks


def contained(networks: list[str], *addresses: str | None) -> list[bool | None]:
    """Return which addresses are in a set of networks."""
    found: list[bool | None] = Networks.of(networks).contain(pa.array(addresses, pa.string()).dictionary_encode()).to_pylist()
    return found


@pytest.mark.parametrize(
    ("network", "first", "last", "before", "after"),
    [
        ("10.0.0.0/8", "10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"),
        ("10.128.0.0/9", "10.128.0.0", "10.255.255.255", "10.127.255.255", "11.0.0.0"),
        ("192.0.2.8/29", "192.0.2.8", "192.0.2.15", "192.0.2.7", "192.0.2.16"),
        ("192.0.2.9", "192.0.2.9", "192.0.2.9", "192.0.2.8", "192.0.2.10"),
        ("255.255.255.0/24", "255.255.255.0", "255.255.255.255", "255.255.254.255", "0.0.0.1"),
        ("2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff::", "2001:db9::"),
        ("2001:db8::1:0/112", "2001:db8::1:0", "2001:db8::1:ffff", "2001:db8::ffff", "2001:db8::2:0"),
    ],
)
def test_ends_belong_to_a_network(network: str, first: str, last: str, before: str, after: str) -> None:
    """A network begins and ends where its prefix says."""
    assert contained([network], first, last, before, after) == [True, True, False, False]


def test_families_are_apart() -> None:
    """All IPv6 addresses are in ::/0 and all IPv4 addresses in 0.0.0.0/0, and not the other way round."""
    assert contained(["::/0"], "::", "10.0.0.1") == [True, False]
    assert contained(["0.0.0.0/0"], "::", "10.0.0.1") == [False, True]


def test_mapped_addresses_are_ipv4() -> None:
    """An IPv4 address written as IPv6 is the same address, in rows and in networks."""
    assert contained(["10.0.0.0/8"], "::ffff:10.0.0.1", "::ffff:a00:1", "::ffff:11.0.0.1") == [True, True, False]
    assert contained(["::ffff:10.0.0.0/104"], "10.0.0.1", "::ffff:10.0.0.1", "11.0.0.1") == [True, True, False]
    assert contained(["::/0"], "::ffff:10.0.0.1") == [False]


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0", "10.0.0.1 ", "10.0.0.256", "010.0.0.1", "1.2.3.4.5", "10.0.0.0/8", "::g", "a", "fe80::1%eth0", "1\x002"],
)
def test_other_texts_are_unknown(text: str) -> None:
    """Of a text that is no address nothing is known."""
    assert contained(["0.0.0.0/0", "::/0"], text) == [None]


def test_nulls_and_order() -> None:
    """There is a result for each row, in order, whatever is between them."""
    assert contained(["10.0.0.0/8"], None, "10.0.0.1", "x", "::1", "10.0.0.1") == [None, True, None, False, True]


def test_no_addresses() -> None:
    """There may be no rows, or only nulls."""
    assert contained(["10.0.0.0/8"]) == []
    assert contained(["10.0.0.0/8"], None) == [None]


def test_overlapping_networks() -> None:
    """Networks may lie within one another or side by side, in any order."""
    networks = ["10.1.0.0/16", "10.0.0.0/8", "11.0.0.0/8", "10.2.3.0/24"]
    assert contained(networks, "10.200.0.1", "11.0.0.1", "12.0.0.0", "9.0.0.0") == [True, True, False, False]


def test_slices() -> None:
    """A slice of a column is looked at as a slice."""
    column = pa.array(["9.9.9.9", "10.0.0.1", "11.0.0.1", "10.0.0.2"])
    sliced = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), column.slice(1, 2))
    assert Networks.of(["10.0.0.0/8"]).contain(sliced).to_pylist() == [True, False]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.0.0/33", "is not a network"),
        ("10.0.0.0/-1", "is not a network"),
        ("corp", "is not a network"),
        ("", "is not a network"),
        ("10.1.2.3/8", "did you mean '10.0.0.0/8'?"),
        ("2001:db8::1/64", "did you mean '2001:db8::/64'?"),
        ("fe80::%eth0/64", "zone"),
    ],
)
def test_wrong_networks_are_named(text: str, reason: str) -> None:
    """A text that is no network is refused by name."""
    with pytest.raises(ValueError, match=r"network|bits|zone") as caught:
        Networks.of([text])
    assert reason in str(caught.value)
    assert repr(text) in str(caught.value)
