# The table of keys in docs/configuration.md as a list for scdoc: one place to describe a key.
# | `group.key` | default | meaning |   ->   *group.key* (default default) + an indented line
function plain(s) {
	gsub(/`|\*\*/, "", s)
	gsub(/^ +| +$/, "", s)
	return s
}
function escaped(s) {
	gsub(/\\/, "\\\\", s)
	gsub(/[_*]/, "\\\\&", s)
	return s
}
/^\| `[a-z_]+(\[\])?(\.[a-z_]+)*` \|/ {
	sub(/ \| \| /, " |  | ") # no default
	split($0, cell, / \| /)
	key = plain(substr(cell[1], 3))
	default_ = plain(cell[2])
	meaning = cell[3]
	sub(/ *\|$/, "", meaning)
	printf "*%s*%s\n\t%s\n\n", escaped(key), default_ == "" ? "" : " (default " escaped(default_) ")", escaped(plain(meaning))
}
