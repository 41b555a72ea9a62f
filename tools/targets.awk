# Prints the targets of a Makefile by group: those with a comment `## GROUP: TEXT` on the target's line. Without a
# group, a target is in the group develop.
BEGIN {
    count = split("first develop prove measure build", order)
    title["first"] = "Start here"; title["develop"] = "Develop"; title["prove"] = "Prove"
    title["measure"] = "Measure"; title["build"] = "Build"
}
/^[a-z-]+:.*## / {
    name = substr($0, 1, index($0, ":") - 1)
    text = substr($0, index($0, "## ") + 3)
    group = substr(text, 1, index(text, ": ") - 1)
    if (group in title) text = substr(text, length(group) + 3)
    else group = "develop"
    members[group] = members[group] " " name
    texts[name] = text
    if (length(name) > width) width = length(name)
}
END {
    for (g = 1; g <= count; g++) {
        members_here = split(members[order[g]], names, " ")
        if (!members_here) continue
        print title[order[g]] ":"
        for (n = 1; n <= members_here; n++) printf "  %-" width "s  %s\n", names[n], texts[names[n]]
        if (g < count) print ""
    }
}
