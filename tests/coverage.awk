# SPDX-License-Identifier: GPL-3.0-or-later
#
# A table of gcovr's CSV: per file and for each part of the tree, how many
# lines and branches there are and how many of them were reached.

function percent(reached, all) {
	return all ? 100 * reached / all : 100
}
function row(name, lines, reached, branches, taken) {
	printf "%-28s %6d %6.1f %% %8d %6.1f %%\n", name,
	    lines, percent(reached, lines), branches, percent(taken, branches)
}
NR == 1 {
	printf "%-28s %15s %17s\n", "", "lines", "branches"
	next
}
{
	part = $1 ~ /^image\// ? "image" : "filter"
	row($1, $2, $3, $5, $6)
	lines[part] += $2
	reached[part] += $3
	branches[part] += $5
	taken[part] += $6
}
END {
	for (part in lines)
		row(part " in all", lines[part], reached[part],
		    branches[part], taken[part])
}
