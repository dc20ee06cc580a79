# Draws what bench measured: data is its file, out the SVG to write.
# Each line of data is a candidate, with median, lowest and highest value of
# bulk one way, bulk both ways, and of p50 and p99 of a 64-byte round trip.
set terminal svg size 900,330 font "sans-serif,13" background "white"
set output out
set style fill solid 0.85 noborder
set style data histograms
set style histogram errorbars gap 1
set grid ytics lc rgb "#dddddd"
set border 3 lc rgb "#888888"
set tics nomirror scale 0.5
set xtics scale 0
set yrange [0:*]
set errorbars lc rgb "#555555"
set key below samplen 1
set multiplot layout 1,2
set title "Bulk, GB/s (more is better)"
plot data using 2:3:4:xtic(1) title "one way" lc rgb "#33658a", \
     data using 5:6:7 title "both ways, sum" lc rgb "#f6ae2d"
set title "Round trip of 64 bytes, µs (less is better)"
plot data using 8:9:10:xtic(1) title "p50" lc rgb "#33658a", \
     data using 11:12:13 title "p99" lc rgb "#f6ae2d"
unset multiplot
