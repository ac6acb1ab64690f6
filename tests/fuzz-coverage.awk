# SPDX-License-Identifier: GPL-3.0-or-later
#
# What llvm-cov reports of each file, by lines and branches; fails where the
# total is below lines or branches.

function row(name, l, b)
{
	printf "%-22s %7s %9s\n", name, l, b
}

BEGIN {
	row("file", "lines", "branches")
}

/\.c / || $1 == "TOTAL" {
	row($1, $10, $13)
}

$1 == "TOTAL" {
	total = 1
	low = $10 + 0 < lines || $13 + 0 < branches
}

END {
	if (!total || low) {
		print "wanted: " lines " % of lines, " branches " % of branches"
		exit 1
	}
}
